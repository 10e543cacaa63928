"""A spike in figures: from the chat logs of the run, and memory readings. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtests.crowd.chat_record import DECLARED, ChatRecord
from loadtests.errors import MeasurementError
from loadtests.percentiles import percentile
from loadtests.results.fairness import (
    jain,
    largest_gap,
    service_by_account,
    tokens_between,
    vtc_bound,
)

# Waits below this are the engine's own first token and the loops' ticks.
WAITED_S_MIN = 2.0
RETRY_AFTER_S_MAX = 120.0
MIB = 2**20


@dataclass(frozen=True)
class Window:
    """The spike on the wall clock: when the crowd came, and when it left."""

    begins_at_s: float
    ends_at_s: float

    def steady(self) -> tuple[float, float]:
        """Where figures are taken: without the rise, and without the chats that the end cuts."""
        length_s = self.ends_at_s - self.begins_at_s
        rise_s, fall_s = min(15.0, 0.2 * length_s), min(10.0, 0.2 * length_s)
        return self.begins_at_s + rise_s, self.ends_at_s - fall_s


@dataclass(frozen=True)
class SpikeFigures:
    """Figures that have bounds; None: there was nothing to measure it by."""

    useful_tokens_share: float
    undeclared_errors: int
    broken_streams: int
    memory_growth_mib: float | None
    jain: float
    service_gap_share: float
    refusal_p99_s: float | None
    retry_after_share: float | None
    places_told_share: float | None
    recovery_s: float
    # and what is only told
    useful_tokens_per_s: float
    sustainable_tokens_per_s: float
    service_gap: float
    service_gap_bound: float
    offered_per_s: float
    offered_over_capacity: float
    outcomes: Mapping[str, int]
    wait_p50_s: float | None
    wait_p99_s: float | None
    backlogged_accounts: int


def spike_figures(
    sustainable: Sequence[ChatRecord],
    sustainable_window: tuple[float, float],
    records: Sequence[ChatRecord],
    window: Window,
    memory: Sequence[tuple[float, int]],
    *,
    slots: int,
) -> SpikeFigures:
    """All figures of a run. `memory`: bytes of the gateway's workers at times on the wall clock.

    Raises:
        MeasurementError: nothing was served, so that there is nothing to compare.
    """
    best_per_s = useful_tokens_per_s(sustainable, *sustainable_window)
    if best_per_s <= 0:
        raise MeasurementError("nothing was served within capacity")
    since_s, until_s = window.steady()
    useful_per_s = useful_tokens_per_s(records, since_s, until_s)
    served = service_by_account(records, since_s, until_s)
    backlogged = [
        account for account in served if is_backlogged(records, account, since_s, until_s)
    ]
    if not backlogged:
        raise MeasurementError("no account was in line throughout: this was no overload")
    gap = largest_gap(records, dict.fromkeys(backlogged, 1.0), since_s, until_s)
    whole = [record for record in records if record.outcome == "whole"]
    if not whole:
        raise MeasurementError("not one chat of the spike was answered")
    prompt_tokens_max = max(record.prompt_tokens for record in whole)
    chat_tokens_max = max(record.prompt_tokens + record.tokens for record in whole)
    bound = vtc_bound(prompt_tokens_max, slots * chat_tokens_max)
    sent = [record for record in records if since_s <= record.sent_at_s < until_s]
    offered_per_s = len(sent) / (until_s - since_s)
    capacity_per_s = best_per_s / (sum(record.tokens for record in whole) / len(whole))
    waits = sorted(r.ttft_s for r in sent if r.outcome == "whole" and r.ttft_s is not None)
    return SpikeFigures(
        useful_tokens_share=useful_per_s / best_per_s,
        undeclared_errors=sum(is_undeclared(record) for record in records),
        broken_streams=sum(record.outcome == "failed" and record.tokens > 0 for record in records),
        memory_growth_mib=memory_growth_mib(memory, window),
        jain=jain([served[account] for account in backlogged]),
        service_gap_share=gap / bound,
        refusal_p99_s=refusal_p99_s(sent),
        retry_after_share=retry_after_share(sent),
        places_told_share=places_told_share(sent),
        recovery_s=recovery_s(records, window.ends_at_s),
        useful_tokens_per_s=useful_per_s,
        sustainable_tokens_per_s=best_per_s,
        service_gap=gap,
        service_gap_bound=bound,
        offered_per_s=offered_per_s,
        offered_over_capacity=offered_per_s / capacity_per_s,
        outcomes=outcomes(sent),
        wait_p50_s=percentile(waits, 50) if waits else None,
        wait_p99_s=percentile(waits, 99) if waits else None,
        backlogged_accounts=len(backlogged),
    )


def useful_tokens_per_s(records: Sequence[ChatRecord], since_s: float, until_s: float) -> float:
    """Output tokens a second of chats that ended whole: what broke off was of no use."""
    tokens = sum(
        tokens_between(record, since_s, until_s) for record in records if record.outcome == "whole"
    )
    return tokens / (until_s - since_s)


def is_backlogged(
    records: Sequence[ChatRecord], account: str, since_s: float, until_s: float
) -> bool:
    """Whether an account had somebody in line throughout, but for gaps below a second.

    A chat is in line from when it was sent until its first token, or its end where none came;
    refusals were not in line.
    """
    spans = sorted(
        (record.sent_at_s, record.sent_at_s + (record.ttft_s or record.end_s))
        for record in records
        if record.account == account and (record.outcome != "refused" or record.places)
    )
    covered_until_s = since_s
    for begins_s, ends_s in spans:
        if begins_s > covered_until_s + 1.0:
            break
        covered_until_s = max(covered_until_s, ends_s)
    return covered_until_s >= until_s - 1.0


def is_undeclared(record: ChatRecord) -> bool:
    """Whether a request ended in something that no gateway may answer."""
    if record.outcome != "failed" or record.tokens > 0:
        return False
    return record.reason not in DECLARED


def memory_growth_mib(memory: Sequence[tuple[float, int]], window: Window) -> float | None:
    """Memory in the spike's last tenth over that after its first third, by their largest."""
    length_s = window.ends_at_s - window.begins_at_s

    def largest(since: float, until: float) -> int:
        low_s, high_s = (window.begins_at_s + share * length_s for share in (since, until))
        return max((size for at_s, size in memory if low_s <= at_s < high_s), default=0)

    early, late = largest(0.25, 0.4), largest(0.9, 1.0)
    if not early or not late:
        return None
    return (late - early) / MIB


def refusal_p99_s(records: Sequence[ChatRecord]) -> float | None:
    """How long refusals took that were given at the door, with their own status."""
    times = sorted(r.end_s for r in records if r.outcome == "refused" and r.status != 200)
    return percentile(times, 99) if times else None


def retry_after_share(records: Sequence[ChatRecord]) -> float | None:
    """The part of those refusals that say when to come back, within what SDKs honour."""
    refused = [r for r in records if r.outcome == "refused" and r.status != 200]
    if not refused:
        return None
    told = sum(
        record.retry_after_s is not None and 0 < record.retry_after_s <= RETRY_AFTER_S_MAX
        for record in refused
    )
    return told / len(refused)


def places_told_share(records: Sequence[ChatRecord]) -> float | None:
    """The part of the chats that waited long that were told a place."""
    waited = [
        record
        for record in records
        if record.outcome == "whole" and (record.ttft_s or 0.0) > WAITED_S_MIN
    ]
    if not waited:
        return None
    return sum(record.places > 0 for record in waited) / len(waited)


def recovery_s(records: Sequence[ChatRecord], ends_at_s: float) -> float:
    """From the spike's end until the last refusal, or the last first token after a long wait."""
    last_s = 0.0
    for record in records:
        if record.outcome == "refused":
            last_s = max(last_s, record.sent_at_s + record.end_s - ends_at_s)
        elif record.ttft_s is not None and record.ttft_s > WAITED_S_MIN:
            last_s = max(last_s, record.sent_at_s + record.ttft_s - ends_at_s)
    return last_s


def outcomes(records: Sequence[ChatRecord]) -> dict[str, int]:
    """How many requests ended how: `whole`, `503 queue_full`, …; most first."""
    counts = Counter(_outcome_in_words(record) for record in records)
    return dict(counts.most_common())


def _outcome_in_words(record: ChatRecord) -> str:
    if record.outcome == "whole":
        return "whole"
    if record.outcome == "hung_up":
        return f"hung up {record.reason}"
    return f"{record.status} {record.reason}"
