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
        "replica_slots_standby",
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


class ModelsFile:
    """The models of a run, looked up again as their file changes."""

    def __init__(self, settings: ServingSettings) -> None:
        self._settings = settings
        self._identity: tuple[int, int, int] | None = None

    def read(self) -> tuple[ServingSettings, ...]:
        """What `read_models` says now. Raises SettingsConflict."""
        # Before the reading: what is written meanwhile differs again.
        self._identity = self._identity_now()
        return read_models(self._settings)

    def read_change(self) -> tuple[ServingSettings, ...] | None:
        """The models, if the file was written since it was last read; else None.

        Raises:
            SettingsConflict: it has a mistake, or is gone; raised once for each change.
        """
        return None if self._identity_now() == self._identity else self.read()

    def _identity_now(self) -> tuple[int, int, int] | None:
        """What changes when a file is written in place or replaced; None while there is none."""
        path = self._settings.models_file
        try:
            found = path.expanduser().stat() if path else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None


def read_models(settings: ServingSettings) -> tuple[ServingSettings, ...]:
    """The settings of each model; those given, where there is no file.

    Raises:
        SettingsConflict: the file cannot be read or has a mistake; names its line.
    """
    path = settings.models_file
    if path is None:
        return (settings,)
    try:
        models = _models_in(settings, path.expanduser().read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SettingsConflict(f"{path}{line}: {error.problem or error.context}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsConflict(f"{path}: {error}") from error
    together = settings.machine_replicas_max or sum(each.most_replicas for each in models.values())
    return tuple(
        each.model_copy(update={"machine_replicas_max": together}) for each in models.values()
    )


def _models_in(settings: ServingSettings, text: str) -> dict[str, ServingSettings]:
    loader = yaml.SafeLoader(text)
    root = loader.get_single_node()
    if not isinstance(root, yaml.MappingNode) or not root.value:
        raise SettingsConflict(f"{settings.models_file}: there must be models, each with a name.")
    models: dict[str, ServingSettings] = {}
    for key, entry in root.value:
        name = str(key.value)
        if name in models:  # YAML itself lets the last of two win
            raise SettingsConflict(f"{_where(settings, key)}: {name!r} stands here a second time.")
        models[name] = _model(settings, name, _Terms(loader, key, entry))
    return models


class _Terms:
    """What the file says of one model, and in which line."""

    def __init__(self, loader: yaml.SafeLoader, key: yaml.Node, entry: yaml.Node) -> None:
        self.key = key
        self.found: Any = loader.construct_object(entry, deep=True)
        self._lines: dict[str, yaml.Node] = (
            {str(term.value): term for term, _ in entry.value}
            if isinstance(entry, yaml.MappingNode)
            else {}
        )

    def line_of(self, term: object) -> yaml.Node:
        """The node of a term's name; the model's own where the term does not stand there."""
        return self._lines.get(str(term), self.key)


def _model(settings: ServingSettings, name: str, terms: _Terms) -> ServingSettings:
    found = terms.found
    if not isinstance(found, dict) or "model" not in found:
        raise SettingsConflict(
            f"{_where(settings, terms.key)}: {name!r}: `model` must name a folder, or a model on "
            "the hub."
        )
    if unknown := sorted(map(str, found.keys() - OF_A_MODEL)):
        raise SettingsConflict(
            f"{_where(settings, terms.line_of(unknown[0]))}: {name!r}: {', '.join(unknown)} cannot "
            f"be set for one model; {', '.join(sorted(OF_A_MODEL))} can."
        )
    try:
        return ServingSettings(
            **{**settings.model_dump(), **found, "model_name": name, "models_file": None}
        )
    except ValidationError as error:
        parts = error.errors(include_input=False, include_url=False)
        wrong = "; ".join(
            f"{'.'.join(map(str, part['loc']))}: {part['msg'].removeprefix('Value error, ')}"
            for part in parts
        )
        line = terms.line_of(next(iter(parts[0]["loc"]), ""))
        raise SettingsConflict(f"{_where(settings, line)}: {name!r}: {wrong}") from error


def _where(settings: ServingSettings, node: yaml.Node) -> str:
    return f"{settings.models_file}:{node.start_mark.line + 1}"
