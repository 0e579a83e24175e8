"""The smallest network of every family of timm is exported to ONNX and compared with its graph.

``docs/reference/timm-families.md`` has the results.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from tamiz import ExportError, ModelSpec, Normalisation, Preprocessing
from tamiz_train.classifier import Classifier
from tamiz_train.networks import build_classifier
from tamiz_train.onnx_export import check_export
from tamiz_train.recipe import ModelSettings

pytestmark = pytest.mark.acceptance

FAILING = {
    "gemma4_vit": "onnxscript 0.7.2 gives two bounds of successive Clip nodes the same name, so the graph is not valid",
}
"""The families whose networks cannot be exported, with the reason."""

FAMILIES = [
    pytest.param(
        family,
        marks=pytest.mark.xfail(reason=FAILING[family], raises=ExportError, strict=True) if family in FAILING else (),
    )
    for family in timm.list_modules()
]
"""The modules of timm, each of which defines the networks of one family."""

SPECIAL = ["maxvit_rmlp_pico_rw_256", "coatnext_nano_rw_224", "crossvit_tiny_240", "deit_tiny_distilled_patch16_224"]
"""Networks of special interest: attention of five dimensions, and several heads."""


@pytest.fixture(scope="session")
def table() -> Iterator[list[dict[str, Any]]]:
    """The results, which are written to ``reports/timm_families.md`` after the last test."""
    rows: list[dict[str, Any]] = []
    yield rows
    Path("reports").mkdir(exist_ok=True)
    Path("reports/timm_families.md").write_text(to_table(rows))


def to_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| family | smallest network | input | parameters | largest difference |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        outcome = f"{row['largest_difference']:.1g}" if "largest_difference" in row else "cannot be exported"
        lines.append(
            f"| {row['family']} | {row['model']} | {row['size']} | {row['parameters'] / 1e6:.1f} M | {outcome} |"
        )
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_smallest_network_of_a_family_is_exported(family: str, table: list[dict[str, Any]]) -> None:
    export(smallest(family), table)


@pytest.mark.parametrize("name", SPECIAL)
def test_a_network_with_unusual_attention_or_several_heads_is_exported(name: str, table: list[dict[str, Any]]) -> None:
    export(name, table)


def smallest(family: str) -> str:
    """The network of a family with the fewest parameters, which are counted without allocating them."""

    def parameters(name: str) -> int:
        with torch.device("meta"):
            return sum(weight.numel() for weight in timm.create_model(name).parameters())

    return min(timm.list_models(module=family), key=parameters)


def export(name: str, table: list[dict[str, Any]]) -> None:
    spec = make_spec(name)
    family = timm.model_entrypoint(name).__module__.rpartition(".")[2]
    row: dict[str, Any] = {"family": family, "model": name, "size": spec.preprocessing.height}
    table.append(row)
    started = time.perf_counter()
    try:
        torch.manual_seed(0)
        classifier = build_classifier(ModelSettings(name=name), spec)
        row["parameters"] = sum(weight.numel() for weight in classifier.parameters())
        disturb(classifier)
        images = np.random.default_rng(0).integers(0, 256, (4, *spec.preprocessing.shape), np.uint8)
        parity = check_export(classifier, spec, images)
        row["largest_difference"] = parity.largest_difference
    except ExportError as exc:
        row["error"] = str(exc)
        raise
    finally:
        row["seconds"] = round(time.perf_counter() - started, 1)
        print(json.dumps(row), flush=True)
        gc.collect()


def make_spec(name: str) -> ModelSpec:
    """The spec of a network with the input size and the normalisation that timm gives for it."""
    config = timm.get_pretrained_cfg(name)
    assert config is not None
    channels, height, width = config.input_size
    assert channels == 3
    return ModelSpec(
        labels=("a", "b", "c", "d", "e"),
        preprocessing=Preprocessing(height=height, width=width),
        normalisation=Normalisation(mean=config.mean, std=config.std),
    )


def disturb(classifier: Classifier) -> None:
    """Change weights that are drawn as constants, such as a scale of 0, by which a layer would have no effect."""
    with torch.no_grad():
        for weight in classifier.parameters():
            if weight.numel() > 1 and weight.min() == weight.max():
                weight.add_(0.1 * torch.randn_like(weight))
