"""Looking weight files over: whole, and in which precision. Reads headers, never tensors."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Final

from serving.errors import ModelUnusable

# A safetensors file starts with the length of its JSON header, 8 bytes, little endian.
_HEADER_LENGTH_BYTES: Final = 8
_HEADER_BYTES_MAX: Final = 100 * 2**20
# What git leaves in place of a large file that it did not fetch.
_LFS_POINTER: Final = b"version https://git-lfs"
# Before torch 1.6 (2020) a .bin file was a bare pickle.
_OLD_TORCH: Final = b"\x80\x02"
# A list of tensors: 34 layers take 40 KB.
_TENSOR_LIST_BYTES_MAX: Final = 100 * 2**20

_INDICES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")

_SAFETENSORS_DTYPES: Final = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
_TORCH_DTYPES: Final = {
    b"HalfStorage": "float16",
    b"BFloat16Storage": "bfloat16",
    b"FloatStorage": "float32",
}


def weight_files(folder: Path) -> list[Path]:
    """The files that vLLM would load: safetensors where there are any, else torch's."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))


def weight_indices(folder: Path) -> list[Path]:
    """The files that say which tensor is in which weight file, as far as there are any."""
    return [folder / name for name in _INDICES if (folder / name).is_file()]


def check_weight_files(folder: Path) -> None:
    """Raise ModelUnusable if weights are missing, cut short or not what their names say."""
    files = weight_files(folder)
    for path in files:
        check_fetched(path)
        if path.suffix == ".safetensors":
            _safetensors_header(path)
        else:
            _check_torch(path)
    if not files and not any(folder.glob("*.gguf")):
        raise ModelUnusable(f"The model folder {folder} has no weights (*.safetensors, *.bin).")
    index = folder / _INDICES[0 if files and files[0].suffix == ".safetensors" else 1]
    if index.is_file():
        _check_shards(index, {path.name for path in files})


def check_fetched(path: Path) -> None:
    """Raise ModelUnusable if the file cannot be opened, or is a pointer that git left for it."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
    except OSError as error:  # a link whose file is gone, as in a cache that was cleaned
        raise ModelUnusable(f"{path} cannot be read: {error.strerror}.") from error
    if start == _LFS_POINTER:
        raise ModelUnusable(
            f"{path} is a Git LFS pointer, not the file. Fetch it with `git lfs pull`."
        )


def weight_dtype(path: Path) -> str | None:
    """The precision of a file's tensors, as torch names it; None where it is not plain to see."""
    if path.suffix == ".safetensors":
        tensors = _safetensors_header(path)
        found = {entry["dtype"] for name, entry in tensors.items() if name[:2] != "__"}
        return next((_SAFETENSORS_DTYPES[key] for key in _SAFETENSORS_DTYPES if key in found), None)
    tensor_list = _torch_tensor_list(path)
    return next((name for storage, name in _TORCH_DTYPES.items() if storage in tensor_list), None)


def _check_torch(path: Path) -> None:
    """A half download lacks the directory that stands at the end of a torch file."""
    with path.open("rb") as file:
        if file.read(len(_OLD_TORCH)) == _OLD_TORCH:
            return
    _torch_tensor_list(path)


def _torch_tensor_list(path: Path) -> bytes:
    """The pickle that names all tensors of a torch file; never unpickled here."""
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(item for item in archive.infolist() if item.filename.endswith("/data.pkl"))
            if entry.file_size > _TENSOR_LIST_BYTES_MAX:
                raise ModelUnusable(f"{path} is not a torch file, or is damaged.")
            return archive.read(entry)
    except (zipfile.BadZipFile, StopIteration, OSError) as error:
        raise ModelUnusable(f"{path} is not a torch file, or is damaged: {error}.") from error


def _check_shards(index: Path, present: set[str]) -> None:
    try:
        wanted = set(json.loads(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnusable(f"{index} cannot be read: {error}.") from error
    if missing := sorted(wanted - present):
        raise ModelUnusable(
            f"The model folder {index.parent} lacks {len(missing)} of {len(wanted)} weight files, "
            f"first {missing[0]}."
        )


def _safetensors_header(path: Path) -> dict[str, Any]:
    """The header, compared with the file's size: half a download is shorter than it says."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(_HEADER_LENGTH_BYTES), "little")
        if not 2 <= header_bytes <= min(_HEADER_BYTES_MAX, size_bytes):
            raise ModelUnusable(f"{path} is not a safetensors file, or is damaged.")
        try:
            header: dict[str, Any] = json.loads(file.read(header_bytes))
            end = max(
                (entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"),
                default=0,
            )
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise ModelUnusable(f"{path} has a damaged header.") from error
    expected_bytes = _HEADER_LENGTH_BYTES + header_bytes + end
    if size_bytes != expected_bytes:
        raise ModelUnusable(
            f"{path} is damaged: {size_bytes} bytes, where its header says {expected_bytes}."
        )
    return header
