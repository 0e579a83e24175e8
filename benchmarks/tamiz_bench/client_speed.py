"""``tamiz bench-client``: images/s from files to labels, beside a straightforward client and the in-process limit.

Contenders take turns on the same image files, against the same embedded Triton:

- ``tamiz``: ``Client.classify_many`` as it is, with no setting.
- ``tamiz, shared memory``: the same through shared memory, as a client on the server's machine may.
- ``plain``: `plain_client`, one image after another.
- ``plain, 16 threads``: the same, shared by 16 threads.
- ``limit``: decoding, resizing and ONNX Runtime in this process, by the best setting that is found.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tamiz import Client
from tamiz.bulk.inputs import find_images
from tamiz_server.repository import Repository
from tamiz_server.triton import Triton

from .benchmark import describe_machine, find_limit
from .measure import Load, measure_plain, measure_served, sample
from .plain_client import PlainClient, copy_with_float_model
from .report import make_folder, write_json
from .turns import print_figures, ratio, take_turns

PLAIN_THREADS = 16


def bench_client(
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders to search for them.")],
    model: Annotated[str, typer.Option(help="Name of the model.")],
    repository: Annotated[Path, typer.Option(help="The model repository.")] = Path("model_repository"),
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each measurement.")] = 4.0,
    rounds: Annotated[int, typer.Option(min=1, help="In which the contenders take turns.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; reports/<model>-client where none.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, last.")] = False,
) -> None:
    """Measure the client against one written from tritonclient's documentation, and the in-process limit."""
    say = partial(print, file=sys.stderr, flush=True)
    files = sample(find_images(images))
    folder = out or Path("reports") / f"{model}-client"
    make_folder(folder)
    live = Repository(repository).live(model)
    graph = repository / model / str(live.version) / "model.onnx"
    with ExitStack() as stack:
        copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tamiz-bench-")))
        copy_with_float_model(Repository(repository), model, copy)
        triton = stack.enter_context(Triton(copy))
        client = stack.enter_context(Client(triton.url, model=model, timeout_s=60))
        near = stack.enter_context(Client(triton.url, model=model, timeout_s=60, key=triton.key, shared_memory=True))
        plain = PlainClient(triton.url, model, live.spec)
        stack.callback(plain.close)
        differing = sum(client.classify(path).label != plain.classify(path) for path in files[:100])
        limit, _ = find_limit(graph, live.spec, files, client.max_batch_size, seconds / 2, say)
        contenders = {
            "tamiz": lambda: measure_served(client, files, Load(), seconds).images_per_s,
            "tamiz, shared memory": lambda: measure_served(near, files, Load(), seconds).images_per_s,
            "plain": lambda: measure_plain(plain, files, 1, seconds).images_per_s,
            f"plain, {PLAIN_THREADS} threads": lambda: measure_plain(plain, files, PLAIN_THREADS, seconds).images_per_s,
            "limit": lambda: limit.measure(files, seconds).images_per_s,
        }
        speeds = take_turns(contenders, rounds, "images/s", say)
    print_figures(speeds, "images/s", "limit")
    report = {
        "model": model,
        "version": live.version,
        "images": len(files),
        "machine": describe_machine(),
        "limit_setting": asdict(limit.setting),
        "images_per_s": speeds,
        "to_limit": {name: ratio(values, speeds["limit"]) for name, values in speeds.items()},
        "labels_of_plain_that_differ_in_100": differing,
        "in_flight": client.in_flight,
    }
    write_json(report, folder)
    print(f"report: {folder}/report.json")
    if as_json:
        print(json.dumps(report))
