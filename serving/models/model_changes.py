"""What a changed models file asks for, beside what is kept already. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.models.models_file import OF_A_MODEL
from serving.settings import ServingSettings

# How many replicas there are to be: a change of these starts none of them anew.
_OF_THE_NUMBER = frozenset(
    {
        "replicas",
        "replicas_min",
        "replicas_max",
        "scale_up_wait_s",
        "scale_down_after_s",
        "scale_to_zero_after_s",
    }
)


@dataclass(frozen=True, slots=True)
class ModelChanges:
    """Models to deploy, to deploy once more with other terms, and the names of those to delete."""

    added: tuple[ServingSettings, ...]
    changed: tuple[ServingSettings, ...]
    removed: tuple[str, ...]


def model_changes(
    kept: Mapping[str, ServingSettings],
    wanted: Sequence[ServingSettings],
    *,
    left_alone: Collection[str] = (),
) -> ModelChanges:
    """From the models that are kept, by name, to those that are wanted.

    Models `left_alone` stay as they are. What a model does not set itself is no change: its share
    of the machine's cores is another as soon as any model comes or goes, and replicas that run
    keep theirs.
    """
    names = {each.served_name for each in wanted}
    changed = [
        _with_share_of(kept[each.served_name], each)
        for each in wanted
        if each.served_name in kept and _terms(each) != _terms(kept[each.served_name])
    ]
    return ModelChanges(
        added=tuple(each for each in wanted if each.served_name not in kept),
        changed=tuple(changed),
        removed=tuple(name for name in kept if name not in names and name not in left_alone),
    )


def replica_terms(settings: ServingSettings) -> dict[str, Any]:
    """What a replica of the model is started with, as plain values: with others it is another."""
    return {
        **settings.model_dump(mode="json", include=set(OF_A_MODEL - _OF_THE_NUMBER)),
        "cores_shared_by": settings.cores_shared_by,
    }


def _with_share_of(before: ServingSettings, now: ServingSettings) -> ServingSettings:
    """`now`, with the share of cores that its replicas have where they need not be started anew."""
    as_before = now.model_copy(update={"machine_replicas_max": before.cores_shared_by})
    return as_before if replica_terms(as_before) == replica_terms(before) else now


def _terms(settings: ServingSettings) -> dict[str, Any]:
    return settings.model_dump(include=set(OF_A_MODEL))
