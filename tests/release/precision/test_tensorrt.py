"""What config.pbtxt says for TensorRT, and which graphs TensorRT can compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from graphs import make_spec
from onnx import TensorProto

from tamiz import UsageError
from tamiz_release.precision.images import SearchImages
from tamiz_release.precision.int8 import Quantization, Quantizer
from tamiz_release.precision.tensorrt import profile_shapes, require_signed, tensorrt_accelerators
from tamiz_server.accelerators import change_accelerators
from tamiz_server.config import ModelConfig, ServingSettings, new_config, parse_config

SPEC = make_spec(["cat", "dog"], 224, 160, "RGB")


def parameters(*arguments: object) -> dict[str, str]:
    (accelerator,) = tensorrt_accelerators(*arguments)["gpu_execution_accelerator"]  # type: ignore[arg-type]
    assert accelerator["name"] == "tensorrt"
    return accelerator["parameters"]


def test_the_configuration_has_the_keys_of_the_native_backend() -> None:
    assert parameters("int8", SPEC, 32, "/var/cache/tensorrt") == {
        "precision_mode": "INT8",
        "max_workspace_size_bytes": "1073741824",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": "/var/cache/tensorrt",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": "/var/cache/tensorrt",
        "trt_profile_min_shapes": "image:1x224x160x3",
        "trt_profile_opt_shapes": "image:32x224x160x3",
        "trt_profile_max_shapes": "image:32x224x160x3",
    }


def test_without_a_folder_the_configuration_has_no_caches() -> None:
    assert not [name for name in parameters("fp16", SPEC, 8) if "cache" in name]
    assert parameters("fp16", SPEC, 8)["precision_mode"] == "FP16"


def test_the_text_of_the_configuration_is_read_back_as_it_was_written() -> None:
    accelerators = tensorrt_accelerators("fp16", SPEC, 64, "/cache")
    config = new_config("pets", ServingSettings(max_batch_size=16))
    change_accelerators(config, {}, accelerators)
    read = parse_config(text_format.MessageToString(config), "config.pbtxt")
    assert read == config
    (accelerator,) = read.optimization.execution_accelerators.gpu_execution_accelerator
    assert dict(accelerator.parameters) == parameters("fp16", SPEC, 16, "/cache"), (
        "up to the largest batch of the model"
    )
    assert [group.kind for group in read.instance_group] == [ModelConfig().instance_group.add().KIND_GPU]


@pytest.mark.parametrize(("largest", "batches"), [(16, (1, 16, 16)), (1, (1, 1, 1)), (0, (1, 1, 1))])
def test_an_engine_is_built_for_one_image_to_the_largest_batch(largest: int, batches: tuple[int, ...]) -> None:
    shapes = profile_shapes(SPEC, largest)
    assert list(shapes) == ["min", "opt", "max"]
    assert list(shapes.values()) == [(batch, 224, 160, 3) for batch in batches]


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_only_fp16_and_int8_are_computed_by_tensorrt(precision: str) -> None:
    with pytest.raises(UsageError, match=f"target tensorrt: the precision is {precision}; give fp16 or int8"):
        tensorrt_accelerators(precision, SPEC, 16)


def test_the_folder_of_the_engines_is_absolute() -> None:
    with pytest.raises(UsageError, match="engine cache cache/trt: give an absolute path, which is a folder on the"):
        tensorrt_accelerators("fp16", SPEC, 16, "cache/trt")


def test_a_symmetric_graph_is_one_that_tensorrt_takes_and_that_of_a_cpu_is_not(
    write_network: Callable[..., Path], search_images: SearchImages, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    quantizer = Quantizer(write_network(), search_images.calibration, tmp_path / "work")
    quantizer.write(Quantization(symmetric=True), tmp_path / "gpu.onnx")
    quantizer.write(Quantization(), tmp_path / "cpu.onnx")
    require_signed(tmp_path / "gpu.onnx")
    with pytest.raises(
        UsageError, match=r"cpu.onnx: target tensorrt: the zero point .* is of type U?INT\d+, and TensorRT"
    ):
        require_signed(tmp_path / "cpu.onnx")
    model = onnx.load(tmp_path / "gpu.onnx")
    zero_point = next(
        each
        for each in model.graph.initializer
        if each.data_type == TensorProto.INT8 and each.name.endswith("zero_point")
    )
    zero_point.raw_data = b"\x03" * max(1, len(zero_point.raw_data))
    onnx.save(model, tmp_path / "shifted.onnx")
    with pytest.raises(
        UsageError, match=r"the zero point .* is not 0, and TensorRT takes signed INT8 with the zero point 0"
    ):
        require_signed(tmp_path / "shifted.onnx")
