"""What a spike must keep to: an SLO file in YAML, and the checks against it.

The one module that imports yaml. Every line of the file is a bound; what is left out is not
checked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadtests.errors import BenchError
from loadtests.results.spike_figures import SpikeFigures

SPIKE_SLO = Path(__file__).parents[1] / "slo" / "spike.yaml"


class SpikeSlo(BaseModel):
    """Bounds; the names end in the figure's unit and in the side of the bound."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    offered_over_capacity_min: float | None = Field(
        None, gt=0, description="Requests/s sent over what the engines sustain: was it a spike?"
    )
    useful_tokens_share_min: float | None = Field(
        None, gt=0, le=1.5, description="Useful tokens/s over the best sustainable."
    )
    undeclared_errors_max: int | None = Field(
        None, ge=0, description="5xx but the declared 503, unknown reasons, no answer at all."
    )
    broken_streams_max: int | None = Field(
        None, ge=0, description="Streams that began and did not end well."
    )
    memory_growth_mib_max: float | None = Field(
        None, ge=0, description="Gateway memory at the spike's end over a third into it."
    )
    backlogged_accounts_min: int | None = Field(
        None, ge=1, description="Accounts in line throughout: of one alone Jain's index is 1."
    )
    jain_min: float | None = Field(
        None, gt=0, le=1, description="Over the equal-weight backlogged accounts."
    )
    service_gap_share_max: float | None = Field(
        None, gt=0, description="Largest service gap over the VTC bound."
    )
    refusal_p99_s_max: float | None = Field(
        None, gt=0, description="How long a refusal at the door takes."
    )
    retry_after_share_min: float | None = Field(
        None, gt=0, le=1, description="Refusals with a Retry-After of 1 to 120 s."
    )
    places_told_share_min: float | None = Field(
        None, gt=0, le=1, description="Chats that waited over 2 s and were told a place."
    )
    recovery_s_max: float | None = Field(
        None, gt=0, description="From the spike's end until nobody waits over 2 s."
    )


@dataclass(frozen=True, slots=True)
class Check:
    """One bound and what was found; `value` None: it could not be measured, which fails."""

    name: str
    value: float | None
    bound: float

    @property
    def is_upper(self) -> bool:
        """Whether the bound is a most."""
        return self.name.endswith("_max")

    @property
    def is_met(self) -> bool:
        """Whether the figure is on the right side."""
        if self.value is None:
            return False
        return self.value <= self.bound if self.is_upper else self.value >= self.bound


def load_slo(path: Path) -> SpikeSlo:
    """The bounds of a file.

    Raises:
        BenchError: it cannot be read, is no YAML or has a mistake; names file, line and field.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BenchError(f"{path}:{line}: {error.problem or error.context}") from error
    if not isinstance(root, yaml.MappingNode):
        raise BenchError(f"{path}:1: bounds must stand here, `name: number` a line")
    lines: dict[str, int] = {}
    for key, _ in root.value:
        if key.value in lines:
            line = key.start_mark.line + 1
            raise BenchError(f"{path}:{line}: {key.value} stands here a second time")
        lines[key.value] = key.start_mark.line + 1
    if all(value is None for value in content.values()):
        raise BenchError(f"{path}: no bound in it, so that nothing could fail")
    return _validated(path, content, lines)


def _validated(path: Path, content: dict[str, Any], lines: dict[str, int]) -> SpikeSlo:
    try:
        return SpikeSlo.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        problem = first["msg"]
        if first["type"] == "extra_forbidden":
            problem = f"is no bound; there are {', '.join(SpikeSlo.model_fields)}"
        raise BenchError(f"{path}:{lines.get(name, 1)}: {name}: {problem}") from error


def checks(slo: SpikeSlo, figures: SpikeFigures) -> Iterator[Check]:
    """Every bound that is set, against its figure of the same name."""
    for name in SpikeSlo.model_fields:
        bound = getattr(slo, name)
        if bound is not None:
            figure = name.removesuffix("_max").removesuffix("_min")
            yield Check(name, getattr(figures, figure), float(bound))
