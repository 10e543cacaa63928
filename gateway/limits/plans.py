"""Plans: what an account may do, from one YAML file that may be edited while the gateway runs.

Each mistake is told with its file and line (see gateway.files.watched_file).
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from gateway.files.watched_file import WatchedFile, keep_fresh
from gateway.files.yaml_file import Node, YamlFile

log = structlog.get_logger(__name__)

PACKAGED_FILE = Path(__file__).with_name("plans.yaml")
# An account whose plan is not in the file gets this one.
FALLBACK_PLAN = "free"

# Twice this in units of gateway.limits.gcra stays below 2^53: such numbers are whole in a double
# in Lua.
_PER_MINUTE_MAX = 50_000_000
_PER_DAY_MAX = 1_000_000_000_000_000
_OUTPUT_TOKENS_MAX = 10_000_000

_PlanName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
_Pattern = Annotated[str, Field(min_length=1, max_length=256)]


@lru_cache(maxsize=1024)  # 3 µs a request, which asks of models that are there
def _fits(model: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)


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
        return _fits(model, self.models)

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
            FileUnusable: it cannot be read, or has a mistake; names file and line.
        """
        self._file = WatchedFile(path or PACKAGED_FILE, read_plans, what="plans")
        self._told_missing: set[str] = set()

    @property
    def by_name(self) -> Mapping[str, Plan]:
        return self._file.by_name

    def plan_for(self, name: str) -> Plan:
        """The plan of that name, or `free` where the file has none such."""
        plan = self._file.by_name.get(name)
        if plan is not None:
            return plan
        if name not in self._told_missing:  # once; names are the operators' own, so few
            self._told_missing.add(name)
            log.warning("plan_missing", plan=name, used=FALLBACK_PLAN, file=str(self._file.path))
        return self._file.by_name[FALLBACK_PLAN]

    async def watch(self) -> None:
        """Takes over changes of the file until cancelled."""
        await keep_fresh(self.refresh)

    def refresh(self) -> None:
        """Reads the file again if it has changed. One with a mistake is refused in the log."""
        if self._file.refresh():
            self._told_missing = set()

    def renew(self) -> None:
        """Reads the file again if it has changed, for whoever is handed these plans.

        Raises:
            FileUnusable: it has a mistake; the plans stay.
        """
        self._file.renew()


def read_plans(path: Path) -> Mapping[str, Plan]:
    """Plans by name.

    Raises:
        FileUnusable: the file cannot be read, is no YAML, or has a mistake; names the line.
    """
    file = YamlFile(path)
    plans = {
        name: _plan(file, name, key, value)
        for name, (key, value) in file.entries(file.root, "plan names").items()
    }
    if FALLBACK_PLAN not in plans:
        raise file.wrong(None, f"there must be a plan named '{FALLBACK_PLAN}'")
    return plans


def _plan(file: YamlFile, name: str, key: Node, node: Node) -> Plan:
    fields = file.entries(node, f"the fields of '{name}'")
    values: dict[str, Any] = {}
    for field, (field_key, value) in fields.items():
        if field == "name":
            raise file.wrong(field_key, f"'{name}': the plan's name stands above its fields")
        values[field] = file.value(value)
    try:
        return Plan(name=name, **values)
    except ValidationError as error:
        # What is missing comes last: most often it stands there, misspelt.
        mistakes = error.errors(include_url=False)
        first = min(mistakes, key=lambda mistake: mistake["type"] == "missing")
        field = str(first["loc"][0])
        reason = first["msg"].removeprefix("Value error, ")
        if field == "name":
            raise file.wrong(key, f"'{name}' is no plan's name: {reason}") from None
        if first["type"] == "missing":
            raise file.wrong(key, f"'{name}' lacks {field}") from None
        at_key, at_value = fields[field]
        if first["type"] == "extra_forbidden":
            raise file.wrong(at_key, f"'{name}' has an unknown field '{field}'") from None
        raise file.wrong(at_value, f"'{name}', {field}: {reason}") from None
