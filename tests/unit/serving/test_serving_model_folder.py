"""Model folders that no engine could load are told apart at once."""

import json
from pathlib import Path

import pytest

from serving.errors import ModelUnusable
from serving.model_folder import check_model, is_local, tokenizer_folder


def _safetensors(data_bytes: int) -> bytes:
    header = {
        "__metadata__": {"format": "pt"},
        "weight": {"dtype": "BF16", "shape": [data_bytes // 2], "data_offsets": [0, data_bytes]},
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data_bytes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (tmp_path / "model.safetensors").write_bytes(_safetensors(64))
    return tmp_path


def test_a_good_folder_passes(folder: Path) -> None:
    check_model(str(folder))


def test_hub_names_are_left_to_the_hub() -> None:
    assert not is_local("owner/model")
    check_model("owner/model")


def test_a_tokenizer_is_named_where_others_find_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tokenizer_folder(str(folder)) == ""
    (folder / "tokenizer.json").write_text("{}")
    assert tokenizer_folder(str(folder)) == str(folder)
    monkeypatch.chdir(folder.parent)
    assert tokenizer_folder(f"./{folder.name}") == str(folder)
    assert tokenizer_folder("owner/model") == ""


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="no model folder"):
        check_model(str(tmp_path / "nowhere"))


def test_file_instead_of_folder(folder: Path) -> None:
    with pytest.raises(ModelUnusable, match="no model folder"):
        check_model(str(folder / "config.json"))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"architectures": []}'])
def test_bad_config(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelUnusable, match=r"config\.json"):
        check_model(str(folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelUnusable, match=str(folder)):
        check_model(str(folder))


@pytest.mark.parametrize("kept_bytes", [0, 4, 8, 40, -1])
def test_half_a_download(folder: Path, kept_bytes: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(ModelUnusable, match="damaged"):
        check_model(str(folder))


@pytest.mark.parametrize("header", [b"{}x", b'{"weight": 1}', b'{"weight": {"data_offsets": []}}'])
def test_damaged_header(folder: Path, header: bytes) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    with pytest.raises(ModelUnusable, match="damaged"):
        check_model(str(folder))


def test_missing_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnusable, match="lacks 1 of 2"):
        check_model(str(folder))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_bad_index(folder: Path, content: str) -> None:
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelUnusable, match="cannot be read"):
        check_model(str(folder))
