"""Several models of one run, from a YAML file: a name, and what is set otherwise than for all.

    smollm2:
      model: /models/smollm2-135m-instruct
      replicas_max: 3
    moss:
      model: /models/moss-moon-003-sft
      replicas: 0
      kv_cache_gib: 40

Each is an application of its own under Ray Serve, with a line of its own in the gateway. What a
model does not set holds from the settings.
"""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import ValidationError

from serving.errors import SettingsConflict
from serving.settings import ServingSettings

# Everything else is of the machine, or of the run.
OF_A_MODEL = frozenset(
    {
        "model",
        "replicas",
        "replicas_min",
        "replicas_max",
        "scale_up_wait_s",
        "scale_down_after_s",
        "scale_to_zero_after_s",
        "accelerator",
        "context_tokens_max",
        "replica_slots",
        "replica_slots_min",
        "replica_slots_max",
        "kv_cache_gib",
        "lora_modules",
        "gpu_memory_utilization",
        "engine_eager",
        "tensor_parallel",
        "cpu_threads",
        "cpu_binding",
        "tool_call_parser",
        "engine_args",
        "engine_hang_s_max",
    }
)


def read_models(settings: ServingSettings) -> tuple[ServingSettings, ...]:
    """The settings of each model; those given, where there is no file.

    Raises:
        SettingsConflict: the file cannot be read or has a mistake; names it.
    """
    path = settings.models_file
    if path is None:
        return (settings,)
    try:
        found = yaml.safe_load(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsConflict(f"{path}: {error}") from error
    if not isinstance(found, dict) or not found:
        raise SettingsConflict(f"{path}: there must be models, each with a name.")
    models = [_model(settings, str(name), terms) for name, terms in found.items()]
    together = settings.machine_replicas_max or sum(each.most_replicas for each in models)
    return tuple(each.model_copy(update={"machine_replicas_max": together}) for each in models)


def _model(settings: ServingSettings, name: str, terms: Any) -> ServingSettings:
    where = f"{settings.models_file}: {name!r}"
    if not isinstance(terms, dict) or "model" not in terms:
        raise SettingsConflict(f"{where}: `model` must name a folder, or a model on the hub.")
    if unknown := sorted(map(str, terms.keys() - OF_A_MODEL)):
        raise SettingsConflict(
            f"{where}: {', '.join(unknown)} cannot be set for one model; "
            f"{', '.join(sorted(OF_A_MODEL))} can."
        )
    try:
        return ServingSettings(
            **{**settings.model_dump(), **terms, "model_name": name, "models_file": None}
        )
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, part['loc']))}: {part['msg'].removeprefix('Value error, ')}"
            for part in error.errors(include_input=False, include_url=False)
        )
        raise SettingsConflict(f"{where}: {wrong}") from error
