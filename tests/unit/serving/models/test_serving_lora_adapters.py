"""Adapter folders that no engine could load are told apart at once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from serving.errors import ModelUnusable
from serving.models.lora_adapters import check_adapters

WriteAdapter = Callable[..., Path]


def check(folder: Path, name: str = "poet") -> None:
    check_adapters({name: str(folder)}, served_name="smollm2")


def test_a_good_folder_passes(write_adapter: WriteAdapter) -> None:
    check(write_adapter("poet"))


def test_an_adapter_must_not_have_the_models_name(write_adapter: WriteAdapter) -> None:
    with pytest.raises(ModelUnusable, match="'smollm2', which is the model's own name"):
        check(write_adapter("poet"), "smollm2")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"no adapter folder .* for 'poet'"):
        check(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("adapter_config.json", r"has no adapter_config\.json"),
        ("adapter_model.safetensors", "no weights"),
    ],
)
def test_missing_file(write_adapter: WriteAdapter, file: str, told: str) -> None:
    folder = write_adapter("poet")
    (folder / file).unlink()
    with pytest.raises(ModelUnusable, match=told):
        check(folder)


def test_weights_under_another_name_are_not_found(write_adapter: WriteAdapter) -> None:
    folder = write_adapter("poet")
    (folder / "adapter_model.safetensors").rename(folder / "model.safetensors")
    with pytest.raises(ModelUnusable, match="no weights"):
        check(folder)


@pytest.mark.parametrize("kept_bytes", [0, 8, -1])
def test_half_a_download(write_adapter: WriteAdapter, kept_bytes: int) -> None:
    path = write_adapter("poet") / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(ModelUnusable, match="damaged"):
        check(path.parent)


@pytest.mark.parametrize("content", ["", "{", "[]", '"LORA"'])
def test_bad_config(write_adapter: WriteAdapter, content: str) -> None:
    folder = write_adapter("poet")
    (folder / "adapter_config.json").write_text(content)
    with pytest.raises(ModelUnusable, match=r"adapter_config\.json"):
        check(folder)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"r": 0}, "the rank"),
        ({"r": 513}, "from 1 to 512"),
        ({"r": "8"}, "the rank"),
        ({"r": True}, "the rank"),
        ({"r": None}, "the rank"),
        ({"peft_type": "PROMPT_TUNING"}, "not that of a LoRA adapter"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ],
)
def test_adapters_that_vllm_does_not_take(
    write_adapter: WriteAdapter, config: dict[str, object], told: str
) -> None:
    with pytest.raises(ModelUnusable, match=told):
        check(write_adapter("poet", **config))
