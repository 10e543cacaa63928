"""How fairly tokens were served, from the chats that got them. Pure.

Service is prompt and answer tokens, one for one, as the gateway's line charges them. A chat's
prompt counts when its first token comes, its answer evenly from the first token to the last.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from loadtests.crowd.chat_record import ChatRecord


def jain(values: Sequence[float]) -> float:
    """Jain's index: 1 when all are equal, 1/n when one has everything.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values to compare")
    squares = sum(value * value for value in values)
    if squares == 0:
        return 1.0
    return sum(values) ** 2 / (len(values) * squares)


def share_errors(
    served: Mapping[str, float], weights: Mapping[str, float]
) -> dict[str, tuple[float, float, float]]:
    """For each name: its share of what was served, its weight's share, and the relative error.

    Raises:
        ValueError: nothing was served.
    """
    total, weight_total = sum(served.values()), sum(weights.values())
    if total <= 0:
        raise ValueError("nothing was served")
    found = {}
    for name, weight in weights.items():
        got, due = served.get(name, 0.0) / total, weight / weight_total
        found[name] = (got, due, got / due - 1)
    return found


def tokens_between(record: ChatRecord, since_s: float, until_s: float) -> float:
    """Output tokens of a chat that came between two times on the wall clock."""
    if record.ttft_s is None or record.last_token_s is None or record.tokens == 0:
        return 0.0
    first_s = record.sent_at_s + record.ttft_s
    last_s = record.sent_at_s + record.last_token_s
    if last_s <= first_s:
        return float(record.tokens) if since_s <= first_s < until_s else 0.0
    overlap_s = min(last_s, until_s) - max(first_s, since_s)
    return record.tokens * max(0.0, overlap_s) / (last_s - first_s)


def service_between(record: ChatRecord, since_s: float, until_s: float) -> float:
    """Prompt and output tokens of a chat that were served between two times."""
    service = tokens_between(record, since_s, until_s)
    if record.ttft_s is not None and since_s <= record.sent_at_s + record.ttft_s < until_s:
        service += record.prompt_tokens
    return service


def service_by_account(
    records: Sequence[ChatRecord], since_s: float, until_s: float
) -> dict[str, float]:
    """What each account was served; accounts that asked and got nothing are there with 0."""
    served: dict[str, float] = {}
    for record in records:
        service = service_between(record, since_s, until_s)
        served[record.account] = served.get(record.account, 0.0) + service
    return served


def largest_gap(
    records: Sequence[ChatRecord],
    weights: Mapping[str, float],
    since_s: float,
    until_s: float,
    period_s: float = 1.0,
) -> float:
    """The most that one account fell behind another over any stretch of time, in tokens / weight.

    All accounts of `weights` must have been backlogged throughout. The difference of two
    accounts' service is looked at each period; the gap of a stretch is how far it moved between
    its ends, so the largest is the range of the differences.
    """
    curves = {
        account: list(_curve(records, account, weight, since_s, until_s, period_s))
        for account, weight in weights.items()
    }
    largest = 0.0
    for one, other in combinations(curves.values(), 2):
        differences = [a - b for a, b in zip(one, other, strict=True)]
        largest = max(largest, max(differences) - min(differences))
    return largest


def vtc_bound(prompt_tokens_max: int, tokens_in_batch_max: int) -> float:
    """The bound of arXiv 2401.00588 on that gap: 2 x max(w_p x L_input, w_q x M).

    With w_p = w_q = 1. M is the most tokens that run at once: slots x (prompt + answer).
    """
    return 2.0 * max(prompt_tokens_max, tokens_in_batch_max)


def _curve(
    records: Sequence[ChatRecord],
    account: str,
    weight: float,
    since_s: float,
    until_s: float,
    period_s: float,
) -> Iterator[float]:
    """The account's weighted service since `since_s`, at the end of each period; first 0."""
    own = [record for record in records if record.account == account]
    steps = round((until_s - since_s) / period_s)
    served = [0.0] * (steps + 1)
    for record in own:
        # Only the periods that the chat touches.
        first = (record.sent_at_s + (record.ttft_s or record.end_s) - since_s) // period_s
        last = (record.sent_at_s + record.end_s - since_s) // period_s
        for step in range(max(0, int(first)), min(steps, int(last) + 1)):
            begin_s = since_s + step * period_s
            served[step + 1] += service_between(record, begin_s, begin_s + period_s)
    total = 0.0
    for service in served:
        total += service
        yield total / weight
