"""The commands of the trainer; `tamiz.cli` lists and calls them.

What needs PyTorch is imported inside a command, when its arguments are known to be right.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from tamiz.errors import InvalidImageError, RunError, UsageError
from tamiz.results import find_images, open_writer, print_table, to_record
from tamiz_server.config import ServingSettings
from tamiz_server.control import Control, change
from tamiz_server.repository import Repository

from .recipe import load_recipe
from .run import Run

RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder, or a recipe's folder for its newest run.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, last.")]


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or the path of a .yaml file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: train.epochs=3."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model by a recipe, keep its best epoch, and measure it."""
    resolved = load_recipe(recipe, overrides or [])
    from . import training

    run = training.train(resolved, say=lambda line: print(line, flush=True))
    print(f"run {run.path}")
    if as_json:
        print(json.dumps({"run": str(run.path), **run.metrics}))


def evaluate(
    run: RunArgument,
    split: Annotated[Literal["train", "validation", "test"], typer.Option(help="Of the run's data.")] = "test",
    as_json: JsonOption = False,
) -> None:
    """Measure a run on a split of its data, in float32."""
    found = Run.find(run)
    from . import evaluation
    from .data import load_data

    data = load_data(found.recipe.data, found.recipe.train.seed)
    if data.labels != found.spec.labels:
        raise RunError(
            f"{found.recipe.data.root} now has the labels {', '.join(data.labels)}; the run was trained on "
            f"{', '.join(found.spec.labels)}"
        )
    measured = evaluation.evaluate(found.load_model(), data.split(split), found.spec)
    if as_json:
        print(json.dumps(measured.to_dict()))
        return
    for message in measured.broken:
        print(f"left out: {message}", file=sys.stderr)
    print(f"{found.path}, {split}: {measured.images:,} images")
    for name, value in measured.metrics.items():
        print(f"  {name:10} {value:.4f}")


def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders to search for them.")],
    run: Annotated[Path, typer.Option(help="A run folder, or a recipe's folder for its newest run.")],
    top_k: Annotated[int, typer.Option(min=1, help="How many labels an image.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write results to this .csv or .jsonl file.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Classify images with a run's weights, without a server."""
    found = Run.find(run)
    paths = list(find_images(images))
    outcomes = found.predict(paths, top_k=top_k)
    records = [to_record(path, outcome) for path, outcome in zip(paths, outcomes, strict=True)]
    errors = sum(isinstance(outcome, InvalidImageError) for outcome in outcomes)
    if out:
        with ExitStack() as stack:
            write = stack.enter_context(open_writer(out, top_k))
            for record in records:
                write(record)
    if as_json:
        document: dict[str, Any] = {"run": str(found.path), "images": len(paths), "errors": errors}
        print(json.dumps(document | ({} if out else {"results": records})))
    elif not out:
        print_table(records, Console(width=None if sys.stdout.isatty() else 160))
    return 1 if errors else 0


def export(run: RunArgument, as_json: JsonOption = False) -> None:
    """Export a run to model.onnx in its folder, and compare the two on validation images."""
    found = Run.find(run)
    from . import export as exporting

    exported = exporting.export(found)
    print(f"{exported.path}: {exported.parity}")
    if as_json:
        print(json.dumps({"path": str(exported.path), "parity": exported.parity.to_dict()}))


def publish(
    source: Annotated[Path, typer.Argument(metavar="RUN|model.onnx", help="A run, or a graph exported by Tamiz.")],
    model: Annotated[str | None, typer.Option(help="Name of the model; the recipe's where none.")] = None,
    repository: Annotated[Path, typer.Option(help="The model repository.")] = Path("model_repository"),
    promote: Annotated[bool, typer.Option("--promote", help="Make the new version the live one.")] = False,
    url: Annotated[str | None, typer.Option(help="A running server that serves the repository.")] = None,
    key: Annotated[str | None, typer.Option(envvar="TAMIZ_KEY", help="The server's key.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a run to the model repository as the model's next version.

    The first version of a model is live at once, a later one when promoted. With --url, a change of what is live
    is loaded into the running server too.
    """
    settings = ServingSettings()
    if source.suffix == ".onnx":
        if not source.is_file():
            raise UsageError(f"{source}: no such file")
        if model is None:
            raise UsageError("--model: name the model that the graph is to be a version of")
        from . import export as exporting

        graph, spec, manifest = source, exporting.read_spec(source), {}
    else:
        run = Run.find(source)
        from . import export as exporting

        exported = exporting.export(run)
        print(f"exported: {exported.parity}")
        graph, spec, manifest = exported.path, run.spec, exporting.describe(run, exported)
        model, settings = model or run.recipe.name, run.recipe.serving
    store, name = Repository(repository), model
    with ExitStack() as stack:
        control = stack.enter_context(Control(url, key)) if url else None
        number = store.publish(name, graph, spec, manifest=manifest, settings=settings)
        print(f"published {name} version {number} in {repository}", flush=True)
        if promote:
            change(store, name, lambda: store.promote(name, number), control)
        elif control is not None and number == store.live(name).version:
            control.load(name)
    live = store.live(name).version
    print(f"{name}: version {live} is live")
    if as_json:
        print(json.dumps({"model": name, "version": number, "live": live}))
