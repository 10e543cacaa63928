"""Looking a model's folder over before an engine is started on it.

An engine takes half a minute to find out that a file is missing, and says so 60 lines deep.
"""

from __future__ import annotations

import json
from pathlib import Path

from serving.errors import ModelUnusable

# A safetensors file starts with the length of its JSON header, 8 bytes, little endian.
_HEADER_LENGTH_BYTES = 8
_HEADER_BYTES_MAX = 100 * 2**20


def is_local(model: str) -> bool:
    """Whether `model` names a folder, existing or not, and not a model on a hub ("owner/name")."""
    return model.startswith(("/", "./", "../", "~")) or Path(model).expanduser().is_dir()


def tokenizer_folder(model: str) -> str:
    """The folder with the model's tokenizer.json, as an absolute path; empty where there is none.

    A model of a hub has none that others could find.
    """
    if not is_local(model):
        return ""
    folder = Path(model).expanduser().absolute()
    return str(folder) if (folder / "tokenizer.json").is_file() else ""


def check_model(model: str) -> None:
    """Raise ModelUnusable if `model` is a folder that no engine could load; hub names pass."""
    if not is_local(model):
        return
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise ModelUnusable(f"There is no model folder {folder}. Set FLOODGATE_MODEL.")
    _check_config(folder / "config.json")
    _check_weights(folder)


def _check_config(path: Path) -> None:
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelUnusable(f"The model folder {path.parent} has no config.json.") from error
    except (OSError, ValueError) as error:
        raise ModelUnusable(f"{path} cannot be read: {error}.") from error
    if not isinstance(config, dict) or not config.get("architectures"):
        raise ModelUnusable(f"{path} does not say which architecture the model has.")


def _check_weights(folder: Path) -> None:
    weights = sorted(folder.glob("*.safetensors"))
    for path in weights:
        _check_safetensors(path)
    if not weights and not any(folder.glob("*.bin")) and not any(folder.glob("*.gguf")):
        raise ModelUnusable(f"The model folder {folder} has no weights (*.safetensors).")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        _check_shards(index, {path.name for path in weights})


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


def _check_safetensors(path: Path) -> None:
    """Compare the file's size with the end of its last tensor: half a download is shorter."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(_HEADER_LENGTH_BYTES), "little")
        if not 2 <= header_bytes <= min(_HEADER_BYTES_MAX, size_bytes):
            raise ModelUnusable(f"{path} is not a safetensors file, or is damaged.")
        try:
            header = json.loads(file.read(header_bytes))
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
