"""Prepares thousands of mutated images under a limit of memory and time, and prints one JSON document.

`test_hostile_images` runs it in a separate process, because a crash or a lack of memory would end that process.
"""

from __future__ import annotations

import collections
import io
import json
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, features
from sklearn.datasets import load_sample_images

from tamiz import InvalidImageError, Preprocessing
from tamiz.preprocessing import prepare

LIMIT_S = 10


def seeds() -> dict[str, bytes]:
    """Two photographs in every format and colour mode, also with EXIF orientations and animated."""
    made = {}
    for number, photo in enumerate(load_sample_images().images):
        picture = Image.fromarray(photo)
        for size in ((61, 43), (320, 240)):
            small = picture.resize(size)
            for kind, modes in {
                "JPEG": ("RGB", "L", "CMYK"),
                "PNG": ("RGB", "L", "RGBA", "LA", "P", "1", "I;16"),
                "WebP": ("RGB", "RGBA"),
                "TIFF": ("RGB", "L", "RGBA", "CMYK", "P", "1", "I;16", "F"),
                "BMP": ("RGB", "L", "P", "1"),
                "GIF": ("P", "L"),
            }.items():
                for mode in modes:
                    image = (
                        small.convert("L").convert("I").point(lambda v: v * 257).convert("I;16")
                        if (mode == "I;16")
                        else small.convert(mode)
                    )
                    made[f"{kind} {mode} {size} {number}"] = saved(image, kind)
            made[f"progressive {size} {number}"] = saved(small, "JPEG", progressive=True)
            made[f"interlaced {size} {number}"] = saved(small, "PNG", optimize=True)
            for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
                made[f"TIFF {compression} {size} {number}"] = saved(small, "TIFF", compression=compression)
            for orientation in range(1, 9):
                exif = Image.Exif()
                exif[0x0112] = orientation
                made[f"EXIF {orientation} {size} {number}"] = saved(small, "JPEG", exif=exif)
            frames = [small.rotate(angle) for angle in (0, 90, 180)]
            for kind in ("GIF", "WebP", "PNG", "TIFF"):
                made[f"animated {kind} {size} {number}"] = saved(
                    frames[0], kind, save_all=True, append_images=frames[1:]
                )
    assert features.check("webp")
    return made


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def mutate(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """Damage or change a file at random: flipped bits, truncation, lost, repeated or foreign parts, false sizes."""
    changed = bytearray(content)
    head = min(len(changed), 200)
    match random.integers(8):
        case 0:
            for place in random.integers(len(changed), size=random.integers(1, 20)):
                changed[place] ^= 1 << random.integers(8)
        case 1:
            for place in random.integers(head, size=random.integers(1, 8)):
                changed[place] = random.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF])
        case 2:
            del changed[random.integers(len(changed)) :]
        case 3:
            start = random.integers(len(changed))
            del changed[start : start + random.integers(1, 500)]
        case 4:
            start, length = random.integers(len(changed)), random.integers(1, 500)
            changed[start:start] = changed[start : start + length] * random.integers(1, 20)
        case 5:
            place = random.integers(max(1, head - 4))
            changed[place : place + 4] = random.choice(
                [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\1\0\0"]
            )
        case 6:
            cut = random.integers(min(len(content), len(other)))
            changed = bytearray(content[:cut] + other[cut:])
        case _:
            start, length = random.integers(len(changed)), random.integers(1, 2000)
            changed[start : start + length] = random.bytes(length)
    return bytes(changed)


def main(count: int, memory: int) -> None:
    """Prepare so many mutated images, and report how many bytes the peak memory of the process is above the start.

    The process may use twice the allowed memory, so that an excess is measured but does not exhaust the machine.
    """
    originals = seeds()
    whole = {name: outcome(content) for name, content in originals.items()}
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    address_space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (address_space + 2 * memory, resource.RLIM_INFINITY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError()))
    random, names = np.random.default_rng(0), list(originals)
    seen: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    for number in range(count):
        name, other = names[number % len(names)], random.choice(names)
        content = mutate(originals[name], originals[other], random)
        signal.alarm(LIMIT_S)
        began = time.perf_counter()
        seen[outcome(content)] += 1
        signal.alarm(0)
        slowest = max(slowest, time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rejected = sorted({name.partition(" (")[0] for name, result in whole.items() if result != "prepared"})
    document = {"images": count, "seeds": len(names), "seen": seen, "slowest_s": slowest, "peak_bytes": peak - before}
    print(json.dumps(document | {"seeds_rejected": rejected}))


def outcome(content: bytes) -> str:
    try:
        pixels = prepare(content, Preprocessing(height=64, width=48))
    except InvalidImageError:
        return "rejected"
    assert pixels.shape == (64, 48, 3)
    assert pixels.dtype == np.uint8
    return "prepared"


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
