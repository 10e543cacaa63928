"""Model folders that no engine could load are told apart at once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.errors import ModelUnusable
from serving.models.model_folder import check_model, is_local, tokenizer_folder
from serving.models.weight_files import weight_dtype

WriteTorchFile = Callable[[Path, str, bytes], None]


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


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]
)
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00"])
def test_other_files_that_are_damaged(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ModelUnusable, match=name):
        check_model(str(folder))


def test_a_tokenizer_without_a_model(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"added_tokens": []}')
    with pytest.raises(ModelUnusable, match="says nothing"):
        check_model(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_link_whose_file_is_gone(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / "cleaned")
    with pytest.raises(ModelUnusable, match=r"config\.json|cannot be read"):
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


@pytest.fixture
def torch_folder(folder: Path, write_torch_file: WriteTorchFile) -> Path:
    """The same model with its weights in a torch file."""
    (folder / "model.safetensors").unlink()
    write_torch_file(folder / "pytorch_model.bin", "archive/data.pkl", b"tensors" * 100)
    return folder


def test_torch_weights_pass(torch_folder: Path) -> None:
    check_model(str(torch_folder))


@pytest.mark.parametrize("kept_bytes", [0, 1, 40, -1])
def test_half_a_download_of_torch_weights(torch_folder: Path, kept_bytes: int) -> None:
    path = torch_folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(ModelUnusable, match="damaged"):
        check_model(str(torch_folder))


def test_an_archive_without_tensors(torch_folder: Path, write_torch_file: WriteTorchFile) -> None:
    write_torch_file(torch_folder / "pytorch_model.bin", "readme.txt", b"")
    with pytest.raises(ModelUnusable, match="not a torch file"):
        check_model(str(torch_folder))


def test_torch_weights_of_before_2020_pass(torch_folder: Path) -> None:
    (torch_folder / "pytorch_model.bin").write_bytes(b"\x80\x02\x8a\nl")
    check_model(str(torch_folder))


def test_missing_torch_shard(torch_folder: Path) -> None:
    index = {"weight_map": {"a": "pytorch_model.bin", "b": "pytorch_model-00002-of-00002.bin"}}
    (torch_folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnusable, match="lacks 1 of 2"):
        check_model(str(torch_folder))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_what_git_leaves_in_place_of_weights(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9810000000\n"
    (folder / name).write_text(pointer)
    with pytest.raises(ModelUnusable, match="git lfs pull"):
        check_model(str(folder))


@pytest.mark.parametrize(
    ("storage", "dtype"),
    [
        (b"HalfStorage", "float16"),
        (b"BFloat16Storage", "bfloat16"),
        (b"FloatStorage", "float32"),
        (b"CharStorage", None),
    ],
)
def test_precision_of_torch_weights(
    tmp_path: Path, write_torch_file: WriteTorchFile, storage: bytes, dtype: str | None
) -> None:
    path = tmp_path / "pytorch_model.bin"
    write_torch_file(
        path, "pytorch_model/data.pkl", b"ctorch\n" + storage + b"\nctorch\nByteStorage"
    )
    assert weight_dtype(path) == dtype


def test_precision_of_safetensors(folder: Path) -> None:
    assert weight_dtype(folder / "model.safetensors") == "bfloat16"
