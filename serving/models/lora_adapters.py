"""LoRA adapters that are served beside their base model, each under a name of its own.

Ray's own way takes adapters from cloud storage alone, and loads one at the first request for it.
vLLM's takes folders, and loads them at the start: a broken one fails the start and nobody's
request. Folders are looked over before that, as the model's is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.errors import ModelUnusable
from serving.models.weight_files import check_weight_files

# The names under which vLLM looks for an adapter's weights.
_WEIGHT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
# The ranks that vLLM makes room for; a smaller adapter takes the room of the next.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Adapters in one batch: each takes memory at the engine whether it is asked for or not, at rank 16
# about a hundredth of the model. Further ones wait a step, and are kept beside.
_ADAPTERS_A_BATCH_MAX = 8


def adapter_arguments(modules: Mapping[str, str]) -> dict[str, Any]:
    """vLLM's arguments for adapters by name and folder; none without adapters.

    Raises:
        ModelUnusable: see adapter_rank.
    """
    if not modules:
        return {}
    ranks = [adapter_rank(_folder(path)) for path in modules.values()]
    return {
        "enable_lora": True,
        "max_loras": min(len(modules), _ADAPTERS_A_BATCH_MAX),
        "max_cpu_loras": len(modules),
        "max_lora_rank": next(room for room in _RANKS if room >= max(ranks)),
        "lora_modules": [
            {"name": name, "path": str(_folder(path))} for name, path in modules.items()
        ],
    }


def check_adapters(modules: Mapping[str, str], *, served_name: str) -> None:
    """Looks over what adapters are to be loaded.

    Raises:
        ModelUnusable: one has the model's own name, or a folder that vLLM could not load.
    """
    for name, path in modules.items():
        if name == served_name:
            raise ModelUnusable(
                f"FLOODGATE_LORA_MODULES has an adapter '{name}', which is the model's own name."
            )
        folder = _folder(path)
        if not folder.is_dir():
            raise ModelUnusable(
                f"There is no adapter folder {folder} for '{name}'. Set FLOODGATE_LORA_MODULES."
            )
        adapter_rank(folder)
        if not any((folder / file).is_file() for file in _WEIGHT_FILES):
            raise ModelUnusable(
                f"The adapter folder {folder} has no weights ({', '.join(_WEIGHT_FILES)})."
            )
        check_weight_files(folder)


def adapter_rank(folder: Path) -> int:
    """The rank of an adapter, from its adapter_config.json as PEFT writes it.

    Raises:
        ModelUnusable: the file is missing or cannot be read, or is of no adapter that vLLM takes.
    """
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelUnusable(f"The adapter folder {folder} has no adapter_config.json.") from error
    except (OSError, ValueError) as error:
        raise ModelUnusable(f"{path} cannot be read: {error}.") from error
    if not isinstance(config, dict) or config.get("peft_type", "LORA") != "LORA":
        raise ModelUnusable(f"{path} is not that of a LoRA adapter.")
    if config.get("use_dora") or config.get("modules_to_save"):
        raise ModelUnusable(f"{path}: vLLM takes no adapter with use_dora or modules_to_save.")
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= _RANKS[-1]:
        raise ModelUnusable(f"{path}: the rank `r` must be from 1 to {_RANKS[-1]}.")
    return rank


def _folder(path: str) -> Path:
    return Path(path).expanduser().absolute()
