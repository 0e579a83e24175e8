"""``tamiz export``: export a run to ONNX."""

from __future__ import annotations

from tamiz.console import print_json, print_next, progress_line
from tamiz.options import JsonOption
from tamiz_train.commands.arguments import RunArgument
from tamiz_train.run import Run


def export(run: RunArgument, as_json: JsonOption = False) -> None:
    """Export a run to model.onnx in its folder, and compare the two on validation images."""
    found = Run.find(run)
    from tamiz_train.onnx_export import export as export_run

    exported = export_run(found)
    progress_line(f"{exported.path}: {exported.parity}")
    if as_json:
        print_json({"path": str(exported.path), "parity": exported.parity.to_dict()})
    else:
        print_next("publish", found.path)
