"""What all users of one locust run share: accounts, the chat they send, the log of chats."""

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import IO

from loadtests.accounts import Account
from loadtests.clients.chat_client import WORDS
from loadtests.crowd.chat_record import DECLARED, ChatRecord, Outcome
from loadtests.crowd.gevent_chat import ChatAnswer
from loadtests.crowd.roles import Roles
from loadtests.crowd.scenarios import Scale, Scenario


@dataclass(frozen=True)
class ChatSize:
    """The chats of a run are of one size, so that a token served is a token compared."""

    model: str
    prompt_words: int
    output_tokens: int


class LoadRun:
    """One run. Accounts are dealt out in turn; where one is greedy, the first is nobody else's."""

    def __init__(
        self,
        accounts: Sequence[Account],
        size: ChatSize,
        scenario: Scenario,
        scale: Scale,
        *,
        crowd_per_s: float,
        patience_s: float,
        log_path: Path | None,
        seed: int,
    ) -> None:
        self.size = size
        self.scenario = scenario
        self.scale = scale
        self.crowd_per_s = crowd_per_s
        self.patience_s = patience_s
        self.roles = Roles()
        self.source = Random(seed)
        self.greedy_account = accounts[0]
        has_greedy = any("greedy" in stage.users for stage in scenario)
        self.ordinary_accounts = tuple((accounts[1:] if has_greedy else accounts) or accounts)
        self._turns = itertools.cycle(self.ordinary_accounts)
        self._log: IO[str] | None = None
        if log_path is not None:
            log_path.parent.mkdir(parents=True, exist_ok=True)
            self._log = log_path.open("w")

    def next_account(self) -> Account:
        """The account of the next ordinary caller."""
        return next(self._turns)

    def body(self) -> bytes:
        """A chat with a prompt of its own, of the run's size."""
        words = " ".join(self._words())
        return json.dumps(
            {
                "model": self.size.model,
                "messages": [{"role": "user", "content": words}],
                "max_tokens": self.size.output_tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            },
            separators=(",", ":"),
        ).encode()

    def record(self, record: ChatRecord) -> None:
        """Write one line of the log."""
        if self._log is not None:
            self._log.write(record.to_line())

    def close(self) -> None:
        """Write what is not written yet."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _words(self) -> Iterator[str]:
        # No two prompts share a beginning, so that no prefix is cached.
        yield f"{self.source.randrange(10**8):08d}"
        for _ in range(self.size.prompt_words):
            yield self.source.choice(WORDS)


def record_of(
    answer: ChatAnswer, account: Account, *, user: str, attempt: int, retry_after_s: float | None
) -> ChatRecord:
    """The log line of an answer that ended now."""
    reading = answer.reading
    outcome, reason = _outcome_of(answer)
    return ChatRecord(
        user=user,
        account=account.account,
        plan=account.plan,
        sent_at_s=round(time.time() - answer.end_s, 4),
        end_s=round(answer.end_s, 4),
        outcome=outcome,
        status=answer.status,
        reason=reason,
        attempt=attempt,
        retry_after_s=retry_after_s,
        place_first=reading.place_first,
        places=reading.places,
        eta_first_s=reading.eta_first_s,
        ttft_s=reading.first_token_at_s,
        itl_s=reading.itl_s,
        gap_s_max=round(reading.gap_s_max, 4),
        tokens=reading.completion_tokens or reading.tokens,
        prompt_tokens=reading.prompt_tokens or 0,
        last_token_s=reading.last_token_at_s,
    )


def _outcome_of(answer: ChatAnswer) -> tuple[Outcome, str]:
    """How it ended, and why: the error's code, where the caller hung up, or what broke."""
    reason = answer.reason
    if answer.hung_up:
        if answer.reading.tokens:
            return "hung_up", "in stream"
        return "hung_up", "in line" if answer.reading.places or not answer.status else "prefill"
    if answer.failure:
        return "failed", answer.failure
    if answer.is_whole:
        return "whole", ""
    # A refusal keeps its status, or comes as an event when the status was out already.
    is_declared = answer.status in (200, 429, 503) and reason in DECLARED
    return ("refused" if is_declared else "failed"), reason or f"status {answer.status}"
