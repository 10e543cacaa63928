"""The cost of an engine's steps from what its clients saw, by least squares. Pure.

With n chats at a time, each of P prompt and T output tokens, a chat lives while T steps of n
sequences are taken and n prompts are prefilled, in whichever steps:

    life = h + a T + b n T + c n P          first token of a lone chat = h + a + b + c P

h is what a request costs outside of steps: HTTP, chat template, tokenizer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtests.clients.chat_client import ChatLoad
from loadtests.errors import MeasurementError


@dataclass(frozen=True)
class Observation:
    """One run: what was asked for and the mean times that came of it, in seconds."""

    concurrency: int
    prompt_tokens: float
    output_tokens: int
    ttft_s: float
    life_s: float
    itl_s: float
    tokens_per_s: float


@dataclass(frozen=True)
class Fit:
    """The four costs, in seconds, and how far the equations are from the observations."""

    request_s: float
    step_base_s: float
    step_sequence_s: float
    step_prefill_token_s: float
    error_mean: float
    """Mean of the relative errors."""
    error_max: float


def observe(load: ChatLoad, output_tokens: int) -> Observation:
    """The means of one run."""
    chats = load.chats
    gaps = [gap for chat in chats for gap in chat.gaps_s]
    return Observation(
        concurrency=load.concurrency,
        prompt_tokens=sum(chat.prompt_tokens for chat in chats) / len(chats),
        output_tokens=output_tokens,
        ttft_s=sum(chat.ttft_s for chat in chats) / len(chats),
        life_s=sum(chat.end_s for chat in chats) / len(chats),
        itl_s=sum(gaps) / len(gaps),
        tokens_per_s=load.tokens_per_s,
    )


def fit(observations: Sequence[Observation]) -> Fit:
    """The costs that explain all observations best, each weighted by its own size.

    A cost that comes out below zero is noise around zero: it is set to zero and the others are
    fitted anew.

    Raises:
        MeasurementError: fewer equations than costs.
    """
    rows: list[tuple[float, float, float, float]] = []
    times_s: list[float] = []
    for one in observations:
        n, prompt, output = one.concurrency, one.prompt_tokens, one.output_tokens
        rows.append((1.0, output, n * output, n * prompt))
        times_s.append(one.life_s)
        if n == 1:
            rows.append((1.0, 1.0, 1.0, prompt))
            times_s.append(one.ttft_s)
    if len(rows) < 4:
        raise MeasurementError(f"{len(rows)} equations for four costs")
    costs = _least_squares(np.array(rows), np.array(times_s))
    errors = np.abs(np.array(rows) @ costs / np.array(times_s) - 1.0)
    h, a, b, c = (float(cost) for cost in costs)
    return Fit(h, a, b, c, float(errors.mean()), float(errors.max()))


def _least_squares(rows: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Relative least squares over the costs that are not negative."""
    weighted = rows / times_s[:, None]
    kept = list(range(rows.shape[1]))
    while True:
        found = np.linalg.lstsq(weighted[:, kept], np.ones(len(times_s)), rcond=None)[0]
        if (found >= 0).all():
            break
        kept.pop(int(found.argmin()))
    costs = np.zeros(rows.shape[1])
    costs[kept] = found
    return costs
