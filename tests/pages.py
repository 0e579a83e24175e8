"""Page-like images of three types of documents, hard enough to mean something.

The three share their layouts: a portrait at either side or none, lines of print, a table, a stamp, on paper of any
tint, turned, shadowed, blurred. What tells them apart is small and moves about: two lines of machine-readable zone
(Pasaporte), a fingerprint (Cedula_Identidad), rows of boxes to tick (Ficha_Residencia), and the title's words.
"""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np

LABELS = ("Ficha_Residencia", "Cedula_Identidad", "Pasaporte")
TITLES = {
    "Ficha_Residencia": ("FICHA DE RESIDENCIA", "RESIDENCIA TEMPORAL", "FICHA"),
    "Cedula_Identidad": ("CEDULA DE IDENTIDAD", "IDENTIDAD", "CEDULA"),
    "Pasaporte": ("PASAPORTE", "PASAPORTE ORDINARIO", "PASSPORT"),
}
LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))
SIDE = 320
FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX)


def write_pages(root: Path, count: int, seed: int = 0) -> None:
    """Write ``count`` pages and the manifest ``labels.csv``: the last quarter for test, the rest to be split."""
    random = np.random.default_rng(seed)
    (root / "pages").mkdir(parents=True)
    rows = [("path", "label", "split")]
    for index in range(count):
        label = LABELS[index % 3]
        name = f"pages/{index:05}.jpg"
        cv2.imwrite(str(root / name), draw_page(label, random), [cv2.IMWRITE_JPEG_QUALITY, 85])
        rows.append((name, label, "test" if index >= count * 3 // 4 else "train"))
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def draw_page(label: str, random: np.random.Generator) -> np.ndarray:
    """One page, uint8 ``[320, 320, 3]``."""
    paper = random.integers(170, 250, 3)
    page = np.full((SIDE, SIDE, 3), paper, np.uint8)
    ink = tuple(int(value) for value in random.integers(0, 110, 3))
    _write(
        page, str(random.choice(TITLES[label])), (random.integers(10, 110), random.integers(24, 60)), 0.5, ink, random
    )
    if random.random() < 0.7:
        _portrait(page, random)
    for line in range(random.integers(4, 9)):
        words = " ".join("".join(random.choice(LETTERS, random.integers(3, 9))) for _ in range(random.integers(1, 4)))
        _write(page, words, (random.integers(10, 120), 80 + 20 * line), 0.35, ink, random)
    if random.random() < 0.5:
        _table(page, ink, random)
    if random.random() < 0.5:
        _stamp(page, random)
    {"Ficha_Residencia": _boxes, "Cedula_Identidad": _fingerprint, "Pasaporte": _zone}[label](page, ink, random)
    return _photograph(page, random)


def _write(
    page: np.ndarray, text: str, at: tuple[int, int], scale: float, ink: object, random: np.random.Generator
) -> None:
    font = FONTS[random.integers(len(FONTS))]
    scale *= random.uniform(0.85, 1.2)
    cv2.putText(page, text, (int(at[0]), int(at[1])), font, scale, ink, 1, cv2.LINE_AA)


def _portrait(page: np.ndarray, random: np.random.Generator) -> None:
    left, top = (
        (random.integers(8, 30) if random.random() < 0.5 else random.integers(215, 240)),
        random.integers(70, 160),
    )
    cv2.rectangle(page, (left, top), (left + 70, top + 90), tuple(map(int, random.integers(120, 220, 3))), -1)
    skin = tuple(map(int, random.integers(70, 200, 3)))
    cv2.ellipse(page, (left + 35, top + 38), (18, 24), 0, 0, 360, skin, -1)
    cv2.ellipse(page, (left + 35, top + 92), (32, 28), 0, 180, 360, tuple(map(int, random.integers(20, 160, 3))), -1)


def _table(page: np.ndarray, ink: object, random: np.random.Generator) -> None:
    left, top = random.integers(10, 150), random.integers(120, 230)
    for line in range(random.integers(3, 6)):
        cv2.line(page, (left, top + 14 * line), (left + 150, top + 14 * line), ink, 1)


def _stamp(page: np.ndarray, random: np.random.Generator) -> None:
    centre = tuple(map(int, random.integers(60, 260, 2)))
    colour = tuple(map(int, random.integers(60, 220, 3)))
    cv2.circle(page, centre, int(random.integers(20, 34)), colour, 2)
    cv2.putText(page, "OFICIAL", (centre[0] - 22, centre[1] + 4), cv2.FONT_HERSHEY_PLAIN, 0.7, colour, 1, cv2.LINE_AA)


def _boxes(page: np.ndarray, ink: object, random: np.random.Generator) -> None:
    left, top = random.integers(10, 200), random.integers(90, 250)
    for row in range(3):
        for column in range(random.integers(3, 6)):
            x, y = left + 20 * column, top + 18 * row
            cv2.rectangle(page, (x, y), (x + 10, y + 10), ink, 1)
            if random.random() < 0.4:
                cv2.line(page, (x, y), (x + 10, y + 10), ink, 1)
                cv2.line(page, (x + 10, y), (x, y + 10), ink, 1)


def _fingerprint(page: np.ndarray, ink: object, random: np.random.Generator) -> None:
    centre = (int(random.integers(40, 280)), int(random.integers(100, 280)))
    turn = float(random.uniform(-30, 30))
    for radius in range(3, 24, 4):
        cv2.ellipse(page, centre, (radius, int(radius * 1.3)), turn, random.integers(0, 40), 330, ink, 1, cv2.LINE_AA)


def _zone(page: np.ndarray, ink: object, random: np.random.Generator) -> None:
    left, top = random.integers(6, 70), random.integers(230, 290)
    for line in range(2):
        letters = random.choice(LETTERS, 30)
        letters[random.random(30) < 0.45] = "<"
        cv2.putText(page, "".join(letters), (left, top + 16 * line), cv2.FONT_HERSHEY_PLAIN, 0.75, ink, 1, cv2.LINE_AA)


def _photograph(page: np.ndarray, random: np.random.Generator) -> np.ndarray:
    turned = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), random.uniform(-12, 12), random.uniform(0.8, 1.05))
    turned[:, 2] += random.uniform(-15, 15, 2)
    table = tuple(map(int, random.integers(20, 200, 3)))
    page = cv2.warpAffine(page, turned, (SIDE, SIDE), borderMode=cv2.BORDER_CONSTANT, borderValue=table)
    # A shadow from one side, and light from another.
    edge = random.uniform(0.45, 0.95)
    ramp = np.linspace(edge, random.uniform(0.85, 1.1), SIDE, dtype=np.float32)
    ramp = ramp[::-1] if random.random() < 0.5 else ramp
    shade = np.tile(ramp, (SIDE, 1)) if random.random() < 0.5 else np.tile(ramp[:, None], (1, SIDE))
    page = np.clip(page * shade[..., None] + random.normal(0, 6, page.shape), 0, 255).astype(np.uint8)
    if random.random() < 0.4:
        page = cv2.GaussianBlur(page, (3, 3), 0)
    return page
