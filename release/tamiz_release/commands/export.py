"""``tamiz export``: export a run to ONNX, in FP32 or a lower precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tamiz.console import print_json, print_next, progress_line
from tamiz.options import JsonOption
from tamiz_train.commands.arguments import RunArgument
from tamiz_train.run import Run

from ..precision.defaults import MAX_LOSS_POINTS
from .arguments import MaxLossOption

if TYPE_CHECKING:
    from ..candidate import Candidate


def export(
    run: RunArgument,
    precision: Annotated[
        Literal["fp32", "fp16", "int8", "auto"],
        typer.Option(
            help="fp32; int8, the fastest graph on this machine that keeps the accuracy; fp16, for GPUs; or auto, the "
            "fastest of these on the runtimes of this machine."
        ),
    ] = "fp32",
    target: Annotated[
        Literal["cpu", "tensorrt"],
        typer.Option(help="What will compute the graph: a CPU, or for fp16 and int8 TensorRT on a GPU."),
    ] = "cpu",
    format_: Annotated[
        Literal["onnx", "tensorrt"],
        typer.Option(
            "--format",
            help="onnx; or tensorrt, a plan in fp16 or int8 for the GPU of this machine, as a model of its own.",
        ),
    ] = "onnx",
    budget: Annotated[
        float, typer.Option(min=1, help="Time budget of the search for a graph of lower precision, in seconds.")
    ] = 300,
    max_loss: MaxLossOption = MAX_LOSS_POINTS,
    as_json: JsonOption = False,
) -> None:
    """Export a run to an ONNX graph in its folder, and compare the two on validation images.

    model.onnx is the graph in FP32. For model.int8.onnx and model.fp16.onnx, which nodes stay in FP32 is found by a
    search that measures speed and accuracy on this machine; precision.json has its result, so that the same export is
    not searched twice. With --precision auto, all three are measured in ONNX Runtime and in OpenVINO, where it is
    installed, and the fastest is taken that keeps the accuracy.

    With --format tensorrt, the model <recipe>_tensorrt is written to the model repository RUN/tensorrt. This needs a
    GPU and the package tensorrt of NVIDIA.
    """
    found = Run.find(run)
    if format_ == "tensorrt":
        from ..precision.tensorrt_plan import export_plan

        exported = export_plan(found, precision, budget_s=budget, max_loss_points=max_loss, on_progress=progress_line)
        if as_json:
            print_json(
                {
                    "path": str(exported.path),
                    "model": exported.model,
                    "version": exported.version,
                    "precision": exported.precision,
                    "plan": dict(exported.record),
                }
            )
        else:
            print_next("models", "--repository", exported.repository)
        return
    # Imported here, because the quantizer takes a second, which a wrong argument should not.
    from ..precision.export import export_precision

    candidate = export_precision(
        found, precision, target=target, budget_s=budget, max_loss_points=max_loss, on_progress=progress_line
    )
    if as_json:
        print_json(_describe(candidate))
    else:
        options = [] if precision == "fp32" else ["--precision", precision]
        options += [] if target == "cpu" else ["--target", target]
        # Otherwise publishing would search another graph.
        options += [] if precision == "fp32" or max_loss == MAX_LOSS_POINTS else ["--max-loss", f"{max_loss:g}"]
        print_next("publish", found.path, *options)


def _describe(candidate: Candidate) -> dict[str, Any]:
    manifest = candidate.manifest
    return {
        "path": str(candidate.graph),
        "precision": candidate.precision,
        "accelerators": dict(candidate.accelerators),
        "parity": manifest["parity"],
        **{
            name: manifest[key]
            for name, key in (("report", "precision_report"), ("choice", "precision_choice"))
            if key in manifest
        },
    }
