"""Looking a model's folder over before an engine is started on it.

An engine takes half a minute to find out that a file is missing, and says so 60 lines deep.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from serving.errors import ModelUnusable
from serving.models.weight_files import check_fetched, check_weight_files

# Read at the start by vLLM's tokenizer and defaults, where a folder has them.
_OTHER_JSON_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


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
    read_config(folder)
    _check_other_files(folder)
    check_weight_files(folder)


def _check_other_files(folder: Path) -> None:
    for path in (folder / name for name in _OTHER_JSON_FILES):
        if not path.exists() and not path.is_symlink():
            continue
        check_fetched(path)
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ModelUnusable(f"{path} cannot be read: {error}.") from error
        if not isinstance(content, dict):
            raise ModelUnusable(f"{path} is damaged: it holds no JSON object.")
        if path.name == "tokenizer.json" and "model" not in content:
            raise ModelUnusable(f"{path} is damaged: it says nothing of the tokenizer's model.")


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json. Raises ModelUnusable."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelUnusable(f"The model folder {folder} has no config.json.") from error
    except (OSError, ValueError) as error:
        raise ModelUnusable(f"{path} cannot be read: {error}.") from error
    if not isinstance(config, dict) or not config.get("architectures"):
        raise ModelUnusable(f"{path} does not say which architecture the model has.")
    return config
