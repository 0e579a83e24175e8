"""The heads of a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from graphs import make_spec

from tamiz_train.networks import build_classifier
from tamiz_train.optimization import freeze
from tamiz_train.recipe import HeadSettings, ModelSettings


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilevit_s", "lenet5"])
def test_a_deeper_head_replaces_the_networks_own(name: str, tmp_path: Path) -> None:
    spec = make_spec(["a", "b", "c"], 64, 64, "RGB")
    deeper = HeadSettings(hidden=(32, 16), dropout=(0.3, 0.3, 0.2), init="xavier")
    settings = ModelSettings(name=name, head=deeper)
    classifier = build_classifier(settings, spec)
    (head,) = classifier.heads
    kinds = [type(layer).__name__ for layer in head]
    assert kinds == ["Dropout", "Linear", "ReLU"] * 2 + ["Dropout", "Linear"]
    assert [layer.p for layer in head if isinstance(layer, torch.nn.Dropout)] == [0.3, 0.3, 0.2]
    last = head[-1]
    assert (last.in_features, last.out_features) == (16, 3)
    assert last.bias.abs().max() == 0
    assert last.weight.abs().max() <= np.sqrt(6 / (16 + 3))
    with classifier.eval().pooled_features() as features, torch.no_grad():
        logits = classifier(torch.zeros((2, 64, 64, 3), dtype=torch.uint8))
    assert logits.shape == (2, 3)
    assert features[0].shape == (2, head[1].in_features)
    # Weights of the plain network are loaded except for its head; those with the same head are loaded completely.
    torch.save(build_classifier(ModelSettings(name=name), spec).network.state_dict(), tmp_path / "plain.pt")
    torch.save(classifier.network.state_dict(), tmp_path / "same.pt")
    build_classifier(settings.model_copy(update={"weights": tmp_path / "plain.pt"}), spec)
    same = build_classifier(settings.model_copy(update={"weights": tmp_path / "same.pt"}), spec)
    torch.testing.assert_close(same.heads[0][-1].weight, last.weight)


DISTILLED = ModelSettings(name="deit_tiny_distilled_patch16_224", options={"img_size": 32, "depth": 1, "embed_dim": 48})
"""A network with a head for the labels and one for the teacher's predictions, made small."""


@pytest.mark.parametrize(
    ("settings", "size", "heads", "features"),
    [
        pytest.param(DISTILLED, 32, ["head", "head_dist"], 2 * 48, id="distilled"),
        pytest.param(ModelSettings(name="crossvit_tiny_240"), 240, ["head.0", "head.1"], 96 + 192, id="two branches"),
        pytest.param(ModelSettings(name="swiftformer_xs"), 64, ["head", "head_dist"], 220, id="one input of two heads"),
    ],
)
def test_all_heads_of_a_network_are_replaced_and_trained_together(
    settings: ModelSettings, size: int, heads: list[str], features: int
) -> None:
    spec = make_spec(["a", "b", "c"], size, size, "RGB")
    deeper = settings.model_copy(update={"head": HeadSettings(hidden=(8,), dropout=(0.5, 0))})
    classifier = build_classifier(deeper, spec)
    assert [[type(layer).__name__ for layer in head] for head in classifier.heads] == (
        [["Dropout", "Linear", "ReLU", "Dropout", "Linear"]] * len(heads)
    )
    freeze(classifier, "head")
    trained = {name for name, weight in classifier.network.named_parameters() if weight.requires_grad}
    assert trained == {f"{head}.{layer}.{kind}" for head in heads for layer in (1, 4) for kind in ("weight", "bias")}
    assert not trained & {name for block in classifier.blocks() for name in block}
    with classifier.eval().pooled_features() as pooled, torch.no_grad():
        logits = classifier(torch.zeros((2, size, size, 3), dtype=torch.uint8))
    assert logits.shape == (2, 3)
    assert [each.shape for each in pooled] == [(2, features)]


def test_all_heads_of_a_network_are_loaded_from_a_file_or_none_of_them(tmp_path: Path) -> None:
    spec = make_spec(["a", "b", "c"], 32, 32, "RGB")
    source = build_classifier(DISTILLED, spec).network
    for head in (source.head, source.head_dist):
        torch.nn.init.constant_(head.weight, 7.0)

    def load(weights: dict[str, torch.Tensor]) -> torch.nn.Module:
        torch.save(weights, tmp_path / "weights.pt")
        return build_classifier(DISTILLED.model_copy(update={"weights": tmp_path / "weights.pt"}), spec).network

    whole = load(source.state_dict())
    assert all((head.weight == 7).all() for head in (whole.head, whole.head_dist))

    other = source.state_dict() | {"head_dist.weight": torch.ones(5, 48), "head_dist.bias": torch.ones(5)}
    lacking = {name: weight for name, weight in source.state_dict().items() if not name.startswith("head.")}
    for weights in (other, lacking):
        partly = load(weights)
        assert torch.equal(partly.cls_token, source.cls_token)
        # New heads, whose logits are near 0.
        assert all(0 < head.weight.abs().max() <= 1 / 48**0.5 for head in (partly.head, partly.head_dist))
