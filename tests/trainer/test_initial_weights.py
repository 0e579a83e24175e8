"""Weights that training starts from, read from local files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from graphs import make_spec
from safetensors.torch import save_file

from tamiz import RecipeError
from tamiz_train.networks import build_classifier
from tamiz_train.recipe import ModelSettings

TEN = [str(index) for index in range(10)]
SPEC = make_spec(TEN)
RGB = make_spec(TEN, 32, 32, "RGB")


def test_local_weights_are_loaded_without_a_head_for_other_labels(tmp_path: Path) -> None:
    source = build_classifier(ModelSettings(name="mobilenetv2_100"), make_spec(TEN[:7], 32, 32, "RGB")).network
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in source.state_dict().items()}, path)
    loaded = build_classifier(ModelSettings(name="mobilenetv2_100", weights=path), RGB).network
    assert torch.equal(loaded.conv_stem.weight, source.conv_stem.weight)
    # The logits of the new head are near 0, so that its first gradients do not destroy the loaded weights.
    assert loaded.classifier.weight.shape == (10, 1280)
    assert loaded.classifier.weight.abs().max() <= 1 / 1280**0.5
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    loaded = build_classifier(ModelSettings(name="mobilenetv2_100", weights=tmp_path / "weights.pt"), RGB).network
    assert torch.equal(loaded.conv_stem.weight, source.conv_stem.weight)


def test_a_head_for_the_same_number_of_labels_is_loaded(tmp_path: Path) -> None:
    source = build_classifier(ModelSettings(name="lenet5"), SPEC).network
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in source.state_dict().items()}, path)
    loaded = build_classifier(ModelSettings(name="lenet5", weights=path), SPEC).network
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in loaded.state_dict().items())


class Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("pwned").write_text, ("",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.safetensors", None, "No such file"),
        ("bad.safetensors", b"nonsense", "bad.safetensors"),
        ("bad.pt", b"nonsense", "not a state dict that can be loaded safely"),
        ("malicious.pt", Malicious(), "not a state dict that can be loaded safely"),
        ("other.safetensors", {"x": torch.zeros(1)}, "lacks 8 tensors of lenet5; the first is 0.weight"),
    ],
)
def test_weights_that_are_unreadable_unsafe_or_unfit_are_recipe_errors(
    name: str, content: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, Malicious):
        torch.save(content, path)
    elif content is not None:
        save_file(content, path)
    with pytest.raises(RecipeError, match=message):
        build_classifier(ModelSettings(name="lenet5", weights=path), SPEC)
    assert not (tmp_path / "pwned").exists()
