"""Examination: finding out how a graph must be adapted, by looking at it and by running it on images.

The graph is read and run in a process with limits of memory and time, because it may be hostile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from tamiz.arguments import check_flag, check_instance, check_list, check_path, check_whole, show_path
from tamiz.errors import ExportError, InvalidImageError, UsageError, cut, os_reason
from tamiz.preprocessing import Pixels, prepare
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, SPEC_METADATA, ModelSpec, Preprocessing
from tamiz_train.graph import find_problem

from .confinement import run_confined
from .description import Description, read_description
from .foreign_graph import ForeignGraph, to_input
from .graph_file import has_external_data, load_graph, total_bytes
from .graph_input import find_input, make_spec
from .graph_output import choose_output, count_outputs, match_labels
from .onnx_versions import is_supported, make_supported
from .wrapping import Adaptation, adapt

SECONDS = 300
"""The longest time that an examination may take."""

MEMORY = 4 * 2**30
"""The memory, in bytes, that an examination may use besides that for the weights."""

BATCHES = (1, 2, 5)
"""The batch sizes with which an adapted graph is compared with the foreign one."""

IMAGES = 8
"""The number of random images, and the largest number of real images, on which a graph is run."""

TOLERANCE = 1e-3
"""The largest difference of two probabilities between an adapted graph and the foreign one, in float32."""

ROUNDED_TOLERANCE = 5e-2
"""The same for graphs with float16 or integer arithmetic, in which a last bit of the input can change a step."""


def examine(
    path: Path,
    description: Description | None = None,
    images: Sequence[Path] = (),
    *,
    confined: bool = True,
    seconds: int = SECONDS,
    memory: int = MEMORY,
) -> Adaptation:
    """Find out how a graph must be adapted to the standard form.

    Args:
        path: path of the ONNX file.
        description: its labels, and what it does not say about itself. Default: the spec in its metadata, the files
            beside it that `read_description` finds, or its spec beside it: ``model.spec.json`` or ``spec.json``.
        images: images on which it is run as well as on random ones; the first `IMAGES` are used.
        confined: whether it is run in a process with limits; False for a file that Tamiz wrote.
        seconds: the longest time that this process may take.
        memory: the memory, in bytes, that this process may use besides that for the weights.

    Raises:
        UsageError: there is no such file, or the description is wrong.
        ExportError: the file cannot be read, is damaged, is no classifier of images, does not match its description, or
            takes too much memory or time.
        SpecError: its spec cannot be read.
    """
    check_path("path", path, "the path of an ONNX file")
    check_instance("description", description, Description, optional=True)
    check_list("images", images, "a list of paths of images")
    for image in images:
        check_path("images", image, "a list of paths of images")
    check_flag("confined", confined)
    check_whole("seconds", seconds)
    check_whole("memory", memory)
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{show_path(path)}: no such file")
    beside = None if description is not None else read_description(path) or _spec_beside(path)
    request = {
        "path": str(path),
        "description": _to_json(description),
        "beside": _to_json(beside),
        "images": [str(image) for image in images[:IMAGES]],
    }
    if confined:
        # A protobuf message takes several times its size, and two graphs are loaded.
        limit = memory + 6 * total_bytes(path)
        result = run_confined(f"{__name__}:examine_here", request, name=str(path), memory=limit, seconds=seconds)
    else:
        result = examine_here(request)
    return Adaptation.model_validate(result)


def _to_json(description: Description | None) -> dict[str, Any] | None:
    # Keys that are not set stay so: the graph decides them.
    return None if description is None else description.model_dump(mode="json", exclude_unset=True)


def _spec_beside(path: Path) -> Description | None:
    for beside in (path.with_suffix(".spec.json"), path.with_name("spec.json")):
        if beside.is_file():
            try:
                return Description.from_spec(ModelSpec.from_json(beside.read_bytes(), source=str(beside)))
            except OSError as exc:
                raise ExportError(f"{beside}: cannot be read: {os_reason(exc)}") from exc
    return None


def examine_here(request: Mapping[str, Any]) -> dict[str, Any]:
    """`examine` in this process; the request and the result are what JSON can hold."""
    path = Path(request["path"])
    model = load_graph(path)
    description = _choose_description(path, model, request)
    try:
        adaptation = _Examination(path, model, description, [Path(image) for image in request["images"]]).adaptation
    except ExportError as exc:
        if str(exc).startswith(str(path)):
            raise
        raise ExportError(f"{path}: {exc}") from exc
    return adaptation.model_dump(mode="json")


def _choose_description(path: Path, model: ModelProto, request: Mapping[str, Any]) -> Description:
    if request["description"] is not None:
        return Description.model_validate(request["description"])
    if (text := _own_spec(model)) is not None:
        return Description.from_spec(ModelSpec.from_json(text, source=str(path)))
    if request["beside"] is not None:
        return Description.model_validate(request["beside"])
    raise ExportError(
        f"{path}: nothing says which labels it has and how images are prepared; give them by --labels FILE and "
        f"--preprocessing FILE, write them to {path.with_suffix('.labels.txt').name} and "
        f"{path.with_suffix('.preprocessing.yaml').name} beside it, or write its spec to "
        f'{path.with_suffix(".spec.json").name}, such as {{"labels": ["cat", "dog"], "preprocessing": '
        '{"height": 224, "width": 224}, "normalisation": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}'
    )


def _own_spec(model: ModelProto) -> str | None:
    """The spec in the metadata of a model, as JSON."""
    return {entry.key: entry.value for entry in model.metadata_props}.get(SPEC_METADATA)


class _Examination:
    """What is known of a graph so far; each step adds to it."""

    def __init__(self, path: Path, model: ModelProto, description: Description, images: Sequence[Path]) -> None:
        self.path = path
        self.settings = description.settings
        self.rounds = _rounds(model)
        found = find_input(model, self.settings)
        self.adaptation = Adaptation(
            spec=make_spec(description.labels, self.settings, found),
            input=found.name,
            # Until it has been run.
            output=OUTPUT_NAME,
            layout=found.layout,
            dtype=found.dtype,
            channel_order=self.settings.channel_order,
            background=self.settings.background,
            batch=found.batch,
        )
        is_ready = is_supported(model) and _own_spec(model) == self.adaptation.spec.to_json()
        model = make_supported(model)
        self.graph = ForeignGraph(model.SerializeToString(), str(path), threads=2)
        self.pixels = _test_images(self.adaptation.spec.preprocessing, images)
        self._find_output(description.labels)
        self._find_activation()
        standard = self._is_standard()
        self._change(standard=standard, complete=standard and is_ready and not has_external_data(path))
        self._compare(model)

    def _change(self, **update: Any) -> None:
        self.adaptation = Adaptation(**{**dict(self.adaptation), **update})

    def _find_output(self, labels: Sequence[str]) -> None:
        """Run the graph on a batch, and find the output that has the labels."""
        outputs = self._run_batch()
        name = choose_output(outputs, self.settings)
        count = count_outputs(name, outputs[name], self.adaptation.batch or 2)
        self._change(output=name, spec=match_labels(self.adaptation.spec, labels, count, self.settings))

    def _run_batch(self) -> dict[str, Any]:
        size = self.adaptation.batch or 2
        pixels = np.resize(self.pixels, (size, *self.pixels.shape[1:]))
        try:
            return self.graph.run(to_input(pixels, self.adaptation))
        except ExportError:
            if self.adaptation.batch is not None:
                raise
            # It says that it takes any batch size, and may take one image only.
            try:
                outputs = self.graph.run(to_input(pixels[:1], self.adaptation))
            except ExportError:
                pass
            else:
                self._change(batch=1)
                return outputs
            raise

    def _find_activation(self) -> None:
        """Find out whether the outputs are probabilities, or what makes probabilities of them."""
        raw, spec = self.graph.raw_outputs(self.pixels, self.adaptation), self.adaptation.spec
        if not np.isfinite(raw).all():
            raise ExportError(
                f"{np.count_nonzero(~np.isfinite(raw)):,} of {raw.size:,} outputs for test images are NaN or infinite"
            )
        chosen = self.settings.activation
        problem = find_problem(raw.astype(np.float32), spec)
        if chosen == "none" and problem is not None:
            raise ExportError(f"activation: none, but its outputs are not probabilities: {problem}")
        if chosen is None:
            chosen = "none" if problem is None else "softmax" if spec.task == "multiclass" else "sigmoid"
            if raw.min() == raw.max():
                raise ExportError(
                    f"all of its outputs are {raw.min():.3g} for all test images; export the trained model, or say in "
                    "the preprocessing file what they are, such as activation: softmax"
                )
            if problem is not None and raw.min() >= 0 and raw.max() <= 1:
                raise ExportError(
                    f"its outputs lie between {raw.min():.3g} and {raw.max():.3g} and do not sum to 1, so they can be "
                    "probabilities of several labels, or logits; say in the preprocessing file which: task: "
                    "multilabel, or activation: softmax"
                )
        self._change(activation=chosen)
        made = self.graph.probabilities(self.pixels, self.adaptation)
        if (problem := find_problem(made, spec)) is not None:
            raise ExportError(f"activation: {chosen}: the results are not probabilities: {problem}")

    def _is_standard(self) -> bool:
        found = self.adaptation
        output = self.graph.outputs[0]
        return (
            len(self.graph.outputs) == 1
            and (found.input, found.output, found.layout, found.dtype) == (INPUT_NAME, OUTPUT_NAME, "NHWC", "uint8")
            and (found.channel_order, found.activation, found.background, found.batch) == ("RGB", "none", None, None)
            and (output.type, len(output.shape)) == ("tensor(float)", 2)
        )

    def _compare(self, model: ModelProto) -> None:
        """Compare the adapted graph with this one, in batches of several sizes."""
        expected = self.graph.probabilities(self.pixels, self.adaptation)
        frozen = None
        try:
            adapted = adapt(model, self.adaptation, str(self.path))
            graph = ForeignGraph(adapted.SerializeToString(), "the adapted graph", threads=2)
            for size in BATCHES:
                actual = graph.run(self.pixels[:size])[OUTPUT_NAME]
                if actual.shape != expected[:size].shape:
                    raise ExportError(f"for {size} images its output is {list(actual.shape)}")
                difference = float(np.abs(actual - expected[:size]).max())
                # Also where it is NaN.
                if not difference <= (ROUNDED_TOLERANCE if self.rounds else TOLERANCE):
                    raise ExportError(f"in a batch of {size}, its probabilities differ by up to {difference:.2g}")
        except ExportError as exc:
            if self.adaptation.batch is None:
                raise ExportError(f"adapted to the standard form, it computes something else: {exc}") from exc
            frozen = cut(str(exc), 300)
        self._change(frozen=frozen)


def _rounds(model: ModelProto) -> bool:
    kinds = {each.data_type for each in model.graph.initializer}
    return TensorProto.FLOAT16 in kinds or any(
        "Quantize" in node.op_type or "Linear" in node.op_type for node in model.graph.node
    )


def _test_images(preprocessing: Preprocessing, paths: Sequence[Path]) -> Pixels:
    """Random images and real ones, uint8 ``[images, height, width, channels]``."""
    # A constant image too, and noise of several strengths: the outputs of noise alone can be almost equal.
    noise = np.random.default_rng(0).integers(0, 256, (IMAGES, *preprocessing.shape))
    images = [*(noise * np.linspace(0, 1, IMAGES).reshape(-1, 1, 1, 1)).astype(np.uint8)[::-1]]
    for path in paths:
        try:
            images.append(prepare(path, preprocessing))
        except InvalidImageError:
            continue
    return np.stack(images)
