"""The head of a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from graphs import make_spec

from tamiz_train.networks import build_classifier
from tamiz_train.recipe import HeadSettings, ModelSettings


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilevit_s", "lenet5"])
def test_a_deeper_head_replaces_the_networks_own(name: str, tmp_path: Path) -> None:
    spec = make_spec(["a", "b", "c"], 64, 64, "RGB")
    head = HeadSettings(hidden=(32, 16), dropout=(0.3, 0.3, 0.2), init="xavier")
    settings = ModelSettings(name=name, head=head)
    classifier = build_classifier(settings, spec)
    kinds = [type(layer).__name__ for layer in classifier.head]
    assert kinds == ["Dropout", "Linear", "ReLU"] * 2 + ["Dropout", "Linear"]
    assert [layer.p for layer in classifier.head if isinstance(layer, torch.nn.Dropout)] == [0.3, 0.3, 0.2]
    last = classifier.head[-1]
    assert (last.in_features, last.out_features) == (16, 3)
    assert last.bias.abs().max() == 0
    assert last.weight.abs().max() <= np.sqrt(6 / (16 + 3))
    with classifier.eval().pooled_features() as features, torch.no_grad():
        logits = classifier(torch.zeros((2, 64, 64, 3), dtype=torch.uint8))
    assert logits.shape == (2, 3)
    assert features[0].shape == (2, classifier.head[1].in_features)
    # Weights of the plain network are loaded except for its head; those with the same head are loaded completely.
    torch.save(build_classifier(ModelSettings(name=name), spec).network.state_dict(), tmp_path / "plain.pt")
    torch.save(classifier.network.state_dict(), tmp_path / "same.pt")
    build_classifier(settings.model_copy(update={"weights": tmp_path / "plain.pt"}), spec)
    same = build_classifier(settings.model_copy(update={"weights": tmp_path / "same.pt"}), spec)
    torch.testing.assert_close(same.head[-1].weight, last.weight)
