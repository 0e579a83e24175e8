from __future__ import annotations

from pathlib import Path

import pytest
import torch
from graphs import make_spec
from safetensors.torch import save_file

from tamiz import RecipeError
from tamiz_train.models import create_model
from tamiz_train.settings import ModelSettings

TEN = [str(index) for index in range(10)]
SPEC = make_spec(TEN)
RGB = make_spec(TEN, 32, 32, "RGB")


def parameters(name: str) -> int:
    return sum(weight.numel() for weight in create_model(ModelSettings(name=name), SPEC).parameters())


def test_lenet5_has_the_parameters_of_the_paper_with_ten_classes() -> None:
    # 6·(25+1) + 16·(6·25+1) + (400+1)·120 + (120+1)·84 + (84+1)·10
    assert parameters("lenet5") == 156 + 2416 + 48120 + 10164 + 850


def test_the_mlp_has_the_parameters_of_the_quickstart() -> None:
    assert parameters("mlp") == (784 + 1) * 512 + (512 + 1) * 512 + (512 + 1) * 10


@pytest.mark.parametrize(("name", "size"), [("lenet5", (32, 48)), ("mlp", (20, 30)), ("mobilenetv2_100", (32, 32))])
def test_any_size_and_class_count_gives_logits(name: str, size: tuple[int, int]) -> None:
    spec = make_spec(["a", "b", "c"], *size, "RGB")
    images = torch.zeros((2, *spec.preprocessing.shape), dtype=torch.uint8)
    assert create_model(ModelSettings(name=name), spec).eval()(images).shape == (2, 3)


def test_pixels_are_normalised_by_the_spec() -> None:
    spec = SPEC.model_copy(
        update={"normalisation": SPEC.normalisation.model_copy(update={"mean": (0.5,), "std": (0.25,)})}
    )
    network = create_model(ModelSettings(name="mlp"), spec)
    network.backbone = torch.nn.Identity()
    seen = network(torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 3, 1)).flatten()
    torch.testing.assert_close(seen, (torch.tensor([0.0, 0.2, 1.0]) - 0.5) / 0.25)


def test_local_weights_are_loaded_and_a_head_of_other_classes_is_left_out(tmp_path: Path) -> None:
    source = create_model(ModelSettings(name="mobilenetv2_100"), make_spec(TEN[:7], 32, 32, "RGB")).backbone
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in source.state_dict().items()}, path)
    loaded = create_model(ModelSettings(name="mobilenetv2_100", weights=path), RGB).backbone
    assert torch.equal(loaded.conv_stem.weight, source.conv_stem.weight)
    # The new head begins with logits near 0, so that its first gradients do not undo what was loaded.
    assert loaded.classifier.weight.shape == (10, 1280)
    assert loaded.classifier.weight.abs().max() <= 1 / 1280**0.5
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    loaded = create_model(ModelSettings(name="mobilenetv2_100", weights=tmp_path / "weights.pt"), RGB).backbone
    assert torch.equal(loaded.conv_stem.weight, source.conv_stem.weight)


def test_a_head_of_the_same_classes_is_loaded_too(tmp_path: Path) -> None:
    source = create_model(ModelSettings(name="lenet5"), SPEC).backbone
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in source.state_dict().items()}, path)
    loaded = create_model(ModelSettings(name="lenet5", weights=path), SPEC).backbone
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in loaded.state_dict().items())


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("pwned").write_text, ("",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.safetensors", None, "No such file"),
        ("bad.safetensors", b"nonsense", "bad.safetensors"),
        ("bad.pt", b"nonsense", "not a state dict that can be read safely"),
        ("evil.pt", Evil(), "not a state dict that can be read safely"),
        ("other.safetensors", {"x": torch.zeros(1)}, "lacks 8 tensors of lenet5, first 0.weight"),
    ],
)
def test_weights_that_do_not_fit_are_told(
    name: str, content: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, Evil):
        torch.save(content, path)
    elif content is not None:
        save_file(content, path)
    with pytest.raises(RecipeError, match=message):
        create_model(ModelSettings(name="lenet5", weights=path), SPEC)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "lenet"}, "no model 'lenet'; did you mean 'lenet5'"),
        ({"name": "mobilenetv2_10"}, "did you mean 'mobilenetv2_1"),
        ({"name": "lenet5", "options": {"x": 1}}, "takes neither options"),
        (
            {"name": "mobilenetv2_100", "options": {"nonsense": 1}},
            "timm cannot create mobilenetv2_100: .*nonsense",
        ),
    ],
)
def test_an_unknown_model_or_option_is_told(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        create_model(ModelSettings(**settings), SPEC)


def test_lenet5_wants_images_that_its_layers_leave_something_of() -> None:
    with pytest.raises(RecipeError, match="12 or more"):
        create_model(ModelSettings(name="lenet5"), make_spec(TEN, 11, 28))
    assert create_model(ModelSettings(name="lenet5"), make_spec(TEN, 12, 12))
