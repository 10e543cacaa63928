"""From the name that a caller asks for to a model that is served: aliases and weighted canaries.

They stand in one YAML file (see gateway.files.watched_file):

    moss: moss-moon-003-sft      # an alias
    chat:                        # a canary: its targets by weight
      smollm2-135m-instruct: 95
      smollm2-next: 5

A name that is a served model as well means what the file says, so that a live model can be
canaried under its own name; among its own targets the name is the model.
"""

import asyncio
import math
from collections.abc import Container, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from gateway.engines.pools import PoolState, PoolView
from gateway.files.watched_file import WatchedFile, keep_fresh
from gateway.files.yaml_file import Node, YamlFile

# As long as the names of models in plans may be.
_NAME_CHARS_MAX = 256
_WEIGHT_MAX = 1_000_000


class Target(NamedTuple):
    """A model, and its part of those who ask for the name; 0 gets nobody."""

    model: str
    weight: float


Route = tuple[Target, ...]


class Routing:
    """The routes of one file as it was when it was last good; none without a file."""

    def __init__(self, path: Path | None = None) -> None:
        """Reads the file.

        Raises:
            FileUnusable: it cannot be read, or has a mistake; names file and line.
        """
        self._file = None if path is None else WatchedFile(path, read_routes, what="routes")

    @property
    def by_name(self) -> Mapping[str, Route]:
        return {} if self._file is None else self._file.by_name

    def target(self, name: str, account_id: str, view: PoolView) -> str:
        """The model that the account gets for the name; the name itself where it has no route.

        An account stays with its target while the weights stay, over all workers and gateways.
        Targets that are not served, or whose serving is dead, are passed over while others are.

        Raises:
            NotFound, Unavailable: none of the name's targets is served.
        """
        route = self.by_name.get(name)
        if route is None:
            return name
        known = [target for target in route if target.weight and target.model in view.by_model]
        alive = [t for t in known if view.by_model[t.model].state is not PoolState.DEAD]
        if not known:
            raise view.absence(name)
        return max(alive or known, key=lambda target: _pull(target, name, account_id)).model

    async def watch(self) -> None:
        """Takes over changes of the file until cancelled."""
        if self._file is None:
            await asyncio.Event().wait()
        else:
            await keep_fresh(self._file.refresh)

    def refresh(self) -> None:
        """Reads the file again if it has changed. One with a mistake is refused in the log."""
        if self._file is not None:
            self._file.refresh()

    def renew(self) -> None:
        """Reads the file again if it has changed, for whoever is handed these routes.

        Raises:
            FileUnusable: it has a mistake; the routes stay.
        """
        if self._file is not None:
            self._file.renew()


def _pull(target: Target, name: str, account_id: str) -> float:
    """Weighted rendezvous: the target that pulls most has the account.

    Over all accounts each target gets its weight's part, and a changed weight moves accounts to
    or from that target alone. The name is hashed too, so that it is not the same accounts that
    try every canary.
    """
    text = f"{name}\0{target.model}\0{account_id}"
    digest = blake2b(text.encode(), digest_size=8).digest()
    # 52 bits and a half: above 0 and below 1.
    drawn = ((int.from_bytes(digest) >> 12) + 0.5) / (1 << 52)
    return target.weight / -math.log(drawn)


def read_routes(path: Path) -> Mapping[str, Route]:
    """Routes by the name that callers ask for.

    Raises:
        FileUnusable: the file cannot be read, is no YAML, or has a mistake; names the line.
    """
    file = YamlFile(path)
    if file.root is None:
        return {}
    entries = file.entries(file.root, "names of models")
    return {name: _route(file, name, key, entries) for name, (key, _) in entries.items()}


def _route(file: YamlFile, name: str, key: Node, entries: Mapping[str, tuple[Node, Node]]) -> Route:
    _check_name(file, key, name)
    node = entries[name][1]
    value = file.value(node)
    if isinstance(value, str):
        if value == name:
            raise file.wrong(node, f"'{name}' stands for itself")
        _check_target(file, node, name, value, entries)
        return (Target(value, 1),)
    if not isinstance(value, dict):
        raise file.wrong(node, f"'{name}' must be one model's name, or models with their weights")
    weights = file.entries(node, f"the models of '{name}'")
    for model, (model_key, _) in weights.items():
        _check_target(file, model_key, name, model, entries)
    route = tuple(
        Target(model, _weight(file, name, model, weight)) for model, (_, weight) in weights.items()
    )
    if not any(target.weight for target in route):
        raise file.wrong(key, f"'{name}' must have a model with a weight above 0")
    return route


def _check_target(file: YamlFile, node: Node, name: str, model: str, names: Container[str]) -> None:
    _check_name(file, node, model)
    if model in names and model != name:
        raise file.wrong(
            node, f"'{name}' stands for '{model}', which has a route itself: name its models here"
        )


def _check_name(file: YamlFile, node: Node, name: str) -> None:
    if not 0 < len(name) <= _NAME_CHARS_MAX:
        raise file.wrong(node, f"a model's name has 1 to {_NAME_CHARS_MAX} characters")


def _weight(file: YamlFile, name: str, model: str, node: Node) -> float:
    weight = file.value(node)
    # True is an int to Python, and no weight; NaN is within no bounds.
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        weight = -1
    if not 0 <= weight <= _WEIGHT_MAX:
        raise file.wrong(
            node, f"'{name}', {model}: the weight must be a number from 0 to {_WEIGHT_MAX}"
        )
    return float(weight)
