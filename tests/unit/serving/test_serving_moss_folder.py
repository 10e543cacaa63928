"""The folder that vLLM reads, made from one as it was published, and what a wrong one gets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.errors import ModelUnusable
from serving.models.model_folder import check_model
from serving.moss.folder import prepare_folder
from serving.ready_model import engine_folder
from tests.moss_checkpoint import SMALL, published_config, write_tokenizer

TORCH_FILE = ("archive/data.pkl", b"\x80\x02ctorch\nHalfStorage\nq\x01.")


@pytest.fixture
def published(tmp_path: Path, write_torch_file: Callable[..., None]) -> Path:
    """All but the tensors; what is in them does not matter here."""
    folder = tmp_path / "moss-moon-003-sft"
    folder.mkdir()
    config = published_config(write_tokenizer(folder), **SMALL)
    (folder / "config.json").write_text(json.dumps(config))
    write_torch_file(folder / "pytorch_model-00001-of-00001.bin", *TORCH_FILE)
    places = {"weight_map": {"lm_head.bias": "pytorch_model-00001-of-00001.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(places))
    return folder


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def read(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name).read_text())
    return content


def test_the_published_folder_is_left_as_it_is(published: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    check_model(str(published))
    prepared = Path(engine_folder(str(published), tmp_path / "home"))
    assert prepared.is_relative_to(tmp_path / "home")
    assert {path.name: path.read_bytes() for path in published.iterdir()} == before


def test_no_code_is_named_and_the_weights_are_linked(published: Path, tmp_path: Path) -> None:
    prepared = prepare_folder(published, tmp_path)
    for name in ("config.json", "tokenizer_config.json"):
        assert "auto_map" not in read(prepared, name)
    assert not list(prepared.glob("*.py"))
    for name in ("pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"):
        assert (prepared / name).readlink() == published / name


def test_the_precision_is_that_of_the_weights(published: Path, tmp_path: Path) -> None:
    assert read(published, "config.json")["torch_dtype"] == "float32"
    config = read(prepare_folder(published, tmp_path), "config.json")
    assert config["dtype"] == "float16"
    assert "torch_dtype" not in config
    assert config["n_head"] == SMALL["n_head"]


def test_sampling_and_ends_of_a_chat_model(published: Path, tmp_path: Path) -> None:
    prepared = prepare_folder(published, tmp_path)
    generation = read(prepared, "generation_config.json")
    config = read(prepared, "config.json")
    assert generation["eos_token_id"] == [config["eos_token_id"], config["bos_token_id"]]
    assert generation["temperature"] == 0.7
    assert generation["top_p"] == 0.8
    assert generation["repetition_penalty"] == 1.02
    assert generation["max_new_tokens"] == 256
    assert "<|Human|>" in (prepared / "chat_template.jinja").read_text()


def test_the_base_model_has_no_chat(published: Path, tmp_path: Path) -> None:
    end = read(published, "config.json")["bos_token_id"]
    change_config(published, eos_token_id=end)
    prepared = prepare_folder(published, tmp_path)
    assert not (prepared / "chat_template.jinja").exists()
    assert read(prepared, "tokenizer_config.json")["eos_token"] == "<|endoftext|>"
    assert read(prepared, "generation_config.json") == {"bos_token_id": end, "eos_token_id": end}


def test_a_second_start_finds_the_folder_and_a_change_makes_another(
    published: Path, tmp_path: Path
) -> None:
    first = prepare_folder(published, tmp_path)
    made_at_ns = first.stat().st_mtime_ns
    assert prepare_folder(published, tmp_path) == first
    assert first.stat().st_mtime_ns == made_at_ns
    change_config(published, layer_norm_epsilon=1e-6)
    second = prepare_folder(published, tmp_path)
    assert second != first
    assert sorted((tmp_path / "prepared").iterdir()) == sorted([first, second])


def test_other_models_and_prepared_folders_are_passed_on(published: Path, tmp_path: Path) -> None:
    assert engine_folder("owner/model", tmp_path) == "owner/model"
    prepared = str(prepare_folder(published, tmp_path))
    assert engine_folder(prepared, tmp_path) == prepared
    change_config(published, model_type="gptj")
    assert engine_folder(str(published), tmp_path) == str(published)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "added_tokens.json"])
def test_missing_file(published: Path, tmp_path: Path, name: str) -> None:
    (published / name).unlink()
    with pytest.raises(ModelUnusable, match=f"has no {name}"):
        prepare_folder(published, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("vocab.json", "{", r"vocab\.json cannot be read"),
        ("vocab.json", "[]", "does not map tokens to ids"),
        ("vocab.json", '{"a": "b"}', "does not map tokens to ids"),
        ("added_tokens.json", "{}", "control tokens"),
        ("added_tokens.json", "\udcff", r"added_tokens\.json cannot be read"),
        ("merges.txt", "#version\nhe\n", "line 2 is not a pair"),
        ("merges.txt", "#version\nQ z\n", "tokenizer"),
    ],
)
def test_damaged_file(published: Path, tmp_path: Path, name: str, content: str, told: str) -> None:
    (published / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ModelUnusable, match=told):
        prepare_folder(published, tmp_path)


def test_no_weights_that_vllm_reads(published: Path, tmp_path: Path) -> None:
    for path in published.glob("*.bin"):
        path.rename(path.with_suffix(".gguf"))
    with pytest.raises(ModelUnusable, match="has no weights"):
        prepare_folder(published, tmp_path)


@pytest.mark.parametrize("name", ["fnlp/moss-moon-003-sft", "OpenMOSS-Team/moss-moon-003-base"])
def test_moss_by_its_hub_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="downloaded first"):
        engine_folder(name, tmp_path)


def test_quantized_checkpoints_are_refused(published: Path, tmp_path: Path) -> None:
    change_config(published, wbits=4, groupsize=128)
    with pytest.raises(ModelUnusable, match="4 bits"):
        prepare_folder(published, tmp_path)


def test_an_end_that_is_none(published: Path, tmp_path: Path) -> None:
    change_config(published, eos_token_id=7)
    with pytest.raises(ModelUnusable, match="eos_token_id 7"):
        prepare_folder(published, tmp_path)


@pytest.mark.parametrize("size", [100, None])
def test_a_vocabulary_that_is_too_small(published: Path, tmp_path: Path, size: int | None) -> None:
    change_config(published, vocab_size=size)
    with pytest.raises(ModelUnusable, match="vocab_size"):
        prepare_folder(published, tmp_path)


def test_a_home_that_cannot_be_written(published: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file")
    with pytest.raises(ModelUnusable, match="cannot be written"):
        prepare_folder(published, home)
