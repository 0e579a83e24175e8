"""The commands of the trainer; `tamiz.cli` lists and calls them.

What needs PyTorch is imported inside a command, when its arguments are known to be right.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tamiz import Client
from tamiz.errors import InvalidImageError, RecipeError, UsageError
from tamiz.files import write_whole
from tamiz.inputs import find_images
from tamiz.results import UNREADABLE, check_output, print_table, to_record, write_records
from tamiz.transports import DEFAULT_URL
from tamiz_server.config import ServingSettings
from tamiz_server.control import change, open_control
from tamiz_server.repository import Repository

from .recipe import load_recipe
from .run import Run

if TYPE_CHECKING:
    from .metrics import ClassFigures

RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder, or a recipe's folder for its newest run.")
]
RecipeArgument = Annotated[str, typer.Argument(help="Name of a shipped recipe, or the path of a .yaml file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: train.epochs=3."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, last.")]


def train(
    recipe: Annotated[str | None, typer.Argument(help="Name of a shipped recipe, or the path of a .yaml file.")] = None,
    overrides: SetOption = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a run that was interrupted.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Find and try all that the recipe names; train nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model by a recipe, keep its best epoch, and measure it."""
    if (recipe is None) == (resume is None):
        raise UsageError("give a recipe to train by, or --resume RUN to go on with a run, and not both")
    if resume is not None:
        if overrides or check:
            raise UsageError("--resume goes on by the run's own recipe; leave out --set and --check")
        begun = Run.find_begun(resume)
        from . import training

        run = training.resume(begun, say=_say)
    else:
        assert recipe is not None
        resolved = load_recipe(recipe, overrides or [], os.environ)
        from . import training

        if check:
            print(training.prepare(resolved))
            print("nothing is wrong with the recipe; nothing was trained")
            return
        run = training.train(resolved, say=_say)
    if os.environ.get("RANK", "0") != "0":
        return
    print(f"run {run.path}")
    if as_json:
        print(json.dumps({"run": str(run.path), **run.metrics}))


def evaluate(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="A run folder, or a recipe's folder for its newest run; runs/NAME if none."),
    ] = None,
    split: Annotated[
        Literal["train", "validation", "test", "all"],
        typer.Option(help="Of the run's data; all for one table of three."),
    ] = "test",
    model: Annotated[str | None, typer.Option(help="Evaluate this served model, and compare it with the run.")] = None,
    url: Annotated[str, typer.Option(help="The server of --model.")] = DEFAULT_URL,
    out: Annotated[Path | None, typer.Option(help="Folder for the reports; RUN/evaluation if none.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a run, or a served model, on its data: figures, and a report of them with pictures.

    The run is measured in float32. With --model the served model is measured by the same code, and the number of
    its predictions that differ from the run's is told.
    """
    if run is None and model is None:
        raise UsageError("name a run, or a served model with --model")
    found = Run.find(run or Path("runs") / str(model))
    from . import evaluation, report
    from .data.split import SPLITS
    from .tracking import log_evaluation

    names = SPLITS if split == "all" else (split,)
    data = evaluation.load_run_data(found, names)
    classifier = found.load_model()
    told, documents = {}, []
    for each in map(data.split, names):
        measured = evaluation.evaluate(classifier, each, found.spec, num_workers=found.recipe.train.num_workers)
        title, folder, extra = f"{found.recipe.name}, {found.path.name}", each.name, {}
        if model is not None:
            own = measured
            with Client(url, model=model) as client:
                measured = evaluation.evaluate_served(client, each, found.spec)
                title = f"{model} version {client.live_version} at {url}"
            folder = f"{each.name}-served"
            extra = {"differing": measured.differences(own)}
        page = report.write_report(measured, (out or found.path / "evaluation") / folder, title)
        figures = {f"{folder}/{name}": value for name, value in measured.metrics.items()}
        try:
            log_evaluation(found, figures, page.parent)
        except RecipeError as exc:
            # Figures are not to be lost with the store that they would be kept in.
            print(f"not logged: {exc}", file=sys.stderr)
        told[folder] = measured
        documents.append(measured.to_dict() | extra | {"report": str(page)})
    if as_json:
        print(json.dumps(documents[0] if split != "all" else {"splits": documents}))
        return
    for measured in told.values():
        for message in measured.broken:
            print(f"left out: {message}", file=sys.stderr)
    print(f"{found.path}" if model is None else f"{model} at {url}, beside {found.path}")
    _print_figures({name: measured.metrics for name, measured in told.items()})
    if len(told) == 1:
        _print_classes(measured.classes)
    for (name, measured), document in zip(told.items(), documents, strict=True):
        print(f"{name}: {measured.images:,} images; {measured.in_words()}")
        if "differing" in document:
            print(f"{name}: {document['differing']} of {len(measured.split):,} predictions differ from the run's")
        print(f"{name}: {document['report']}")


def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders to search for them.")],
    run: Annotated[Path, typer.Option(help="A run folder, or a recipe's folder for its newest run.")],
    top_k: Annotated[int, typer.Option(min=1, help="How many labels an image.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write results to this .csv, .jsonl or .parquet file.")] = None,
    features: Annotated[
        Path | None,
        typer.Option(help="Write the pooled features to this .npy file, float32 [images, width]; NaN if unreadable."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Classify images with a run's weights, without a server."""
    found = Run.find(run)
    paths = find_images(images)
    if out:
        check_output(out)
    from . import evaluation

    pooled: list[Any] | None = None if features is None else []
    outcomes = evaluation.predict(found, paths, top_k=top_k, features=pooled)
    if features is not None and pooled is not None:
        _write_features(features, pooled)
    multilabel = found.spec.task == "multilabel"
    records = [to_record(path, outcome, multilabel=multilabel) for path, outcome in zip(paths, outcomes, strict=True)]
    errors = sum(isinstance(outcome, InvalidImageError) for outcome in outcomes)
    if out:
        write_records(out, records, top_k=top_k, multilabel=multilabel)
    if as_json:
        document: dict[str, Any] = {"run": str(found.path), "images": len(paths), "errors": errors}
        print(json.dumps(document | ({} if out else {"results": records})))
    elif out:
        print(f"{len(paths):,} images, {errors} errors, in {out}")
    else:
        print_table(records, Console(width=None if sys.stdout.isatty() else 160))
    return UNREADABLE if errors else 0


def data_check(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> int:
    """Read every image of a recipe and tell what is wrong with its data; exit 1 where anything is."""
    resolved = load_recipe(recipe, overrides or [], os.environ)
    from .data import load_data
    from .data.check import check_data

    data = load_data(resolved.data, resolved.train.seed)
    found = list(check_data(data, resolved.preprocessing.colour))
    images = {split.name: len(split) for split in data.splits}
    if as_json:
        findings = [{"what": finding.what, "count": len(finding.names), "names": finding.names} for finding in found]
        print(json.dumps({"task": data.task, "labels": data.labels, "images": images, "findings": findings}))
    else:
        told = ", ".join(f"{count:,} {name}" for name, count in images.items())
        print(f"{resolved.name}: {data.task}, {len(data.labels)} labels, images: {told}")
        for finding in found:
            print(finding)
        if not found:
            print("nothing is wrong with the data")
    return 1 if found else 0


def data_show(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    out: Annotated[Path, typer.Option(help="The picture, a .png file.")] = Path("samples.png"),
) -> None:
    """Write a contact sheet of a recipe's training images, each as it is and augmented."""
    resolved = load_recipe(recipe, overrides or [], os.environ)
    from .data import load_data
    from .plots import plot_samples

    data = load_data(resolved.data, resolved.train.seed)
    write_whole(out, plot_samples(data.train, data.labels, resolved))
    print(f"{out}: {min(16, len(data.train))} of {len(data.train):,} training images, as they are and augmented")


def explain(
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders to search for them.")],
    run: Annotated[Path, typer.Option(help="A run folder, or a recipe's folder for its newest run.")],
    out: Annotated[Path, typer.Option(help="Folder for the overlays, which are PNG files.")] = Path("explanations"),
    label: Annotated[
        str | None, typer.Option(help="The label to explain; each image's most probable one where none.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Show where in images a run's network sees a label: a Grad-CAM heat map over each."""
    found = Run.find(run)
    paths = find_images(images)
    from . import explain as explaining

    records: list[dict[str, Any]] = []
    for path, outcome in explaining.explain(found, paths, out, label=label):
        record: dict[str, Any] = dict.fromkeys(("path", "label", "score", "overlay", "error")) | {"path": str(path)}
        if isinstance(outcome, InvalidImageError):
            record["error"] = line = str(outcome)
        else:
            record |= {"label": outcome.label, "score": outcome.score, "overlay": str(outcome.path)}
            line = f"{path}: {outcome.label} {outcome.score:.4f} -> {outcome.path}"
        records.append(record)
        if not as_json:
            # A file name need not be UTF-8.
            shown = os.fsencode(line).decode(errors="replace")
            print(shown, file=sys.stderr if record["error"] else sys.stdout, flush=True)
    errors = sum(record["error"] is not None for record in records)
    if as_json:
        print(json.dumps({"run": str(found.path), "images": len(paths), "errors": errors, "results": records}))
    return UNREADABLE if errors else 0


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
    with open_control(url, key) as control:
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


def _say(line: str) -> None:
    print(line, flush=True)


def _print_figures(columns: dict[str, dict[str, float]]) -> None:
    table = Table("figure", *columns)
    for name in next(iter(columns.values())):
        table.add_row(name, *(f"{figures[name]:.4f}" for figures in columns.values()))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _print_classes(classes: Sequence[ClassFigures]) -> None:
    table = Table("label", "precision", "recall", "F1", "images")
    for label, *figures, support in classes:
        table.add_row(Text(label), *(f"{value:.4f}" for value in figures), str(support))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _write_features(path: Path, rows: list[Any]) -> None:
    import numpy as np

    width = next((len(row) for row in rows if row is not None), 0)
    array = np.stack([np.full(width, np.nan, np.float32) if row is None else row for row in rows])
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_whole(path, buffer.getvalue())
