"""Plans: what an account may do, from one YAML file that may be edited while the gateway runs.

The one module that imports yaml. Each mistake is told with its file and line. At start it stops
the start; later the file is refused and the plans that were read before stay.
"""

import asyncio
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import structlog
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from gateway.errors import PlansUnusable

log = structlog.get_logger(__name__)

PACKAGED_FILE = Path(__file__).with_name("plans.yaml")
# An account whose plan is not in the file gets this one.
FALLBACK_PLAN = "free"

_WATCH_PERIOD_S = 1.0
# A plan takes some 400 bytes of text; this is room for two thousand.
_FILE_BYTES_MAX = 1024 * 1024
# Twice this in units of gateway.gcra stays below 2^53: such numbers are whole in a double in Lua.
_PER_MINUTE_MAX = 50_000_000
_PER_DAY_MAX = 1_000_000_000_000_000
_OUTPUT_TOKENS_MAX = 10_000_000

_PlanName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
_Pattern = Annotated[str, Field(min_length=1, max_length=256)]


class Plan(BaseModel):
    """One plan. Limits hold for an account; `tokens_per_day` None is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: _PlanName
    requests_per_minute: int = Field(ge=1, le=_PER_MINUTE_MAX)
    tokens_per_minute: int = Field(ge=1, le=_PER_MINUTE_MAX)
    tokens_per_day: int | None = Field(None, ge=1, le=_PER_DAY_MAX)
    concurrent_requests: int = Field(ge=1, le=1_000_000)
    waiting_requests: int = Field(ge=0, le=1_000_000)
    weight: float = Field(gt=0, le=1000, allow_inf_nan=False)
    output_tokens_max: int = Field(ge=1, le=_OUTPUT_TOKENS_MAX)
    output_tokens_default: int = Field(ge=1, le=_OUTPUT_TOKENS_MAX)
    models: tuple[_Pattern, ...] = Field(("*",), min_length=1, strict=False)
    shares_prefix_cache: bool = False

    def allows(self, model: str) -> bool:
        """Whether a model's name fits one of the plan's patterns (fnmatch, with case)."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)

    @field_validator("output_tokens_default")
    @classmethod
    def _default_is_within_the_largest(cls, tokens: int, info: ValidationInfo) -> int:
        largest = info.data.get("output_tokens_max")
        if largest is not None and tokens > largest:
            raise ValueError(f"must be at most output_tokens_max, {largest}")
        return tokens


class Plans:
    """The plans of one file, as it was when it was last good."""

    def __init__(self, path: Path | None = None) -> None:
        """Reads the file, or the packaged one.

        Raises:
            PlansUnusable: it cannot be read, or has a mistake; names file and line.
        """
        self._path = path or PACKAGED_FILE
        self._identity = _identity(self._path)
        self._by_name = read_plans(self._path)
        self._told_missing: set[str] = set()

    @property
    def by_name(self) -> Mapping[str, Plan]:
        return self._by_name

    def plan_for(self, name: str) -> Plan:
        """The plan of that name, or `free` where the file has none such."""
        plan = self._by_name.get(name)
        if plan is not None:
            return plan
        if name not in self._told_missing:  # once; names are the operators' own, so few
            self._told_missing.add(name)
            log.warning("plan_missing", plan=name, used=FALLBACK_PLAN, file=str(self._path))
        return self._by_name[FALLBACK_PLAN]

    async def watch(self) -> None:
        """Takes over changes of the file until cancelled."""
        while True:
            await asyncio.sleep(_WATCH_PERIOD_S)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Reads the file again if it has changed. One with a mistake is refused in the log."""
        identity = _identity(self._path)
        if identity == self._identity:
            return
        # Before the reading: what is written meanwhile differs again.
        self._identity = identity
        try:
            plans = read_plans(self._path)
        except PlansUnusable as error:
            log.error("plans_refused", error=str(error), kept=sorted(self._by_name))
            return
        self._by_name = plans
        self._told_missing = set()
        log.info("plans_read", file=str(self._path), plans=sorted(plans))


def read_plans(path: Path) -> Mapping[str, Plan]:
    """Plans by name.

    Raises:
        PlansUnusable: the file cannot be read, is no YAML, or has a mistake; names the line.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_FILE_BYTES_MAX + 1)
        if len(text) > _FILE_BYTES_MAX:
            raise PlansUnusable(f"{path}: larger than {_FILE_BYTES_MAX} bytes")
        loader = yaml.SafeLoader(text.decode())
        root = loader.get_single_node()
    except OSError as error:
        raise PlansUnusable(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PlansUnusable(f"{path}: not UTF-8 at byte {error.start}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PlansUnusable(f"{path}:{line}: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise PlansUnusable(f"{path}: {str(error) or 'nested too deep'}") from error
    plans = {
        name: _plan(path, loader, name, key, value)
        for name, (key, value) in _entries(path, root, "plan names").items()
    }
    if FALLBACK_PLAN not in plans:
        raise PlansUnusable(f"{path}:1: there must be a plan named '{FALLBACK_PLAN}'")
    return plans


def _plan(path: Path, loader: yaml.SafeLoader, name: str, key: yaml.Node, node: yaml.Node) -> Plan:
    fields = _entries(path, node, f"the fields of '{name}'")
    values: dict[str, Any] = {}
    for field, (field_key, value) in fields.items():
        if field == "name":
            raise _wrong(path, field_key, f"'{name}': the plan's name stands above its fields")
        values[field] = _value(path, loader, value)
    try:
        return Plan(name=name, **values)
    except ValidationError as error:
        # What is missing comes last: most often it stands there, misspelt.
        mistakes = error.errors(include_url=False)
        first = min(mistakes, key=lambda mistake: mistake["type"] == "missing")
        field = str(first["loc"][0])
        reason = first["msg"].removeprefix("Value error, ")
        if field == "name":
            raise _wrong(path, key, f"'{name}' is no plan's name: {reason}") from None
        if first["type"] == "missing":
            raise _wrong(path, key, f"'{name}' lacks {field}") from None
        at_key, at_value = fields[field]
        if first["type"] == "extra_forbidden":
            raise _wrong(path, at_key, f"'{name}' has an unknown field '{field}'") from None
        raise _wrong(path, at_value, f"'{name}', {field}: {reason}") from None


def _value(path: Path, loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    try:
        return loader.construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _wrong(path, node, f"cannot be read: {error}") from None


def _entries(
    path: Path, node: yaml.Node | None, what: str
) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """A mapping's texts with the nodes of key and value. YAML itself lets the last of two win."""
    if not isinstance(node, yaml.MappingNode):
        line = 1 if node is None else node.start_mark.line + 1
        raise PlansUnusable(f"{path}:{line}: {what} must stand here, each with a colon")
    entries: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _wrong(path, key, f"{what} must be plain words")
        if key.value in entries:
            raise _wrong(path, key, f"'{key.value}' stands here a second time")
        entries[key.value] = (key, value)
    return entries


def _wrong(path: Path, node: yaml.Node, problem: str) -> PlansUnusable:
    return PlansUnusable(f"{path}:{node.start_mark.line + 1}: {problem}")


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written in place or replaced; None while it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
