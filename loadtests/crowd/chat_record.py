"""One line of a run's chat log: what became of one request, for the analysis after the run. Pure.

JSON lines, written by the locust users, read by `loadtests.spike` and the benches.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from loadtests.errors import MeasurementError

Outcome = Literal["whole", "refused", "failed", "hung_up"]

DECLARED = frozenset(
    {
        *("queue_full", "queue_timeout", "account_queue_full", "no_capacity"),
        *("rate_limit_requests", "rate_limit_tokens", "budget_exhausted", "draining"),
    }
)
"""The reasons that a gateway may refuse with; anything else is a failure."""


@dataclass(frozen=True, slots=True)
class ChatRecord:
    """One request. Times in seconds: `sent_at_s` on the wall clock, the others from then."""

    user: str
    account: str
    plan: str
    sent_at_s: float
    end_s: float
    outcome: Outcome
    status: int
    """0 when there was none."""
    reason: str
    """The error's code; what went wrong, for a failure; where, for a hang-up."""
    attempt: int
    """0 for the first try, then the SDK's retries."""
    retry_after_s: float | None
    place_first: int | None
    places: int
    eta_first_s: int | None
    ttft_s: float | None
    itl_s: float | None
    gap_s_max: float
    tokens: int
    prompt_tokens: int
    last_token_s: float | None = None

    def to_line(self) -> str:
        """The record as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"


def read_records(path: Path) -> list[ChatRecord]:
    """Every record of a log.

    Raises:
        MeasurementError: the log is missing or has a broken line before its last.
    """
    try:
        return list(_records(path.read_text().splitlines()))
    except (OSError, ValueError, TypeError) as error:
        raise MeasurementError(f"{path}: {error}") from error


def _records(lines: list[str]) -> Iterator[ChatRecord]:
    for number, line in enumerate(lines, 1):
        try:
            yield ChatRecord(**json.loads(line))
        except ValueError:
            # A run that was cut off may end in the middle of a line.
            if number < len(lines):
                raise
