"""Locust users that chat through the gateway and measure what a caller feels.

Metrics, in locust's own table, times in ms: `chat whole`, `chat ttft`, `chat itl` (a chat's
mean), `line wait` (until the first token, of chats that were told a place), `line place` (the
first place told; no time), `line eta error` (first estimate against the wait; by its size),
`refused <status> <reason>`, `hang up <where>`. Only undeclared errors and broken answers count
as locust's failures.
"""

import time
from typing import Any

import gevent
from gevent.pool import Pool
from locust import User, constant, task

from loadtests.accounts import Account
from loadtests.crowd.chat_record import ChatRecord
from loadtests.crowd.gevent_chat import ChatAnswer, ChatConnection
from loadtests.crowd.load_run import LoadRun, record_of
from loadtests.crowd.retries import RETRIES_MAX, retry_in_s, told_to_wait_s

# A crowd that finds no answer piles up; past this the gateway has lost anyway.
CROWD_OPEN_MAX = 6_000
GIVEN_UP_S = 1.0


class Caller(User):
    """One caller; what kind of one, its run's stage says (loadtests/crowd/scenarios.py)."""

    wait_time = constant(0)

    @property
    def run_shared(self) -> LoadRun:
        """What the users of this run share."""
        run: LoadRun = self.environment.load_run
        return run

    def on_start(self) -> None:
        """Nobody yet."""
        self.kind = ""
        self.account: Account | None = None
        self.connection: ChatConnection | None = None
        self.crowd = Pool(CROWD_OPEN_MAX)

    def on_stop(self) -> None:
        """Hang up. Of a crowd nobody comes any more; those who are here stay to the end."""
        self.run_shared.roles.give_back(self.kind)
        if self.connection is not None:
            self.connection.close()

    @task
    def act(self) -> None:
        """One chat, or one arrival of the crowd."""
        run = self.run_shared
        kind = run.roles.take(self.kind)
        if kind != self.kind:
            self._become(kind)
        if kind == "crowd":
            self._let_arrive()
        elif kind == "impatient":
            self._chat(patience_s=run.patience_s * run.source.uniform(0.5, 1.5))
        else:
            self._chat(patience_s=None)

    def _let_arrive(self) -> None:
        """Spawn whoever is due, then wait for the next.

        Gaps are exponential (a Poisson process) and laid end to end, so that a late turn of a
        busy process sends several at once and not fewer.
        """
        run = self.run_shared
        while self.next_arrival_s <= time.monotonic():
            self.crowd.spawn(self._chat_once, run.next_account())
            self.next_arrival_s += run.source.expovariate(run.crowd_per_s)
        gevent.sleep(max(0.0, self.next_arrival_s - time.monotonic()))

    def _become(self, kind: str) -> None:
        run, self.kind = self.run_shared, kind
        self.next_arrival_s = time.monotonic()
        self.account = run.greedy_account if kind == "greedy" else run.next_account()
        if self.connection is not None:
            self.connection.close()
        self.connection = ChatConnection(self.host or "", self.account.api_key)

    def _chat(self, patience_s: float | None) -> None:
        """One chat; refused, as often again as the SDKs try."""
        run = self.run_shared
        assert self.account is not None
        assert self.connection is not None
        body = run.body()
        for attempt in range(RETRIES_MAX + 1):
            answer = ChatAnswer()
            try:
                self.connection.chat(body, answer, patience_s=patience_s)
            finally:
                # Also when locust ends this user in the middle of an answer.
                report(self.environment, answer, self.account, self.kind, attempt)
            wait_s = retry_in_s(answer.status, answer.headers, attempt, run.source)
            if answer.hung_up or wait_s is None:
                break
            gevent.sleep(wait_s)
        if not answer.is_whole and not answer.hung_up:
            # The SDK gave up; whoever called it does not come back at once.
            gevent.sleep(GIVEN_UP_S)

    def _chat_once(self, account: Account) -> None:
        connection, answer = ChatConnection(self.host or "", account.api_key), ChatAnswer()
        try:
            connection.chat(self.run_shared.body(), answer)
        finally:
            connection.close()
            report(self.environment, answer, account, "crowd", 0)


def report(environment: Any, answer: ChatAnswer, account: Account, kind: str, attempt: int) -> None:
    """Fire an answer's metrics, and log it."""
    retry_after_s = told_to_wait_s(answer.headers)
    record = record_of(answer, account, user=kind, attempt=attempt, retry_after_s=retry_after_s)
    environment.load_run.record(record)
    for request_type, name, value in metrics_of(record):
        error = RuntimeError(f"{record.status} {record.reason}")
        environment.events.request.fire(
            request_type=request_type,
            name=name,
            response_time=value,
            response_length=record.tokens,
            exception=error if record.outcome == "failed" and name == "whole" else None,
            context={},
        )


def metrics_of(record: ChatRecord) -> list[tuple[str, str, float]]:
    """A record as locust's metrics: type, name, value (ms, but for places)."""
    found: list[tuple[str, str, float]] = []
    if record.outcome in ("whole", "failed"):
        found.append(("chat", "whole", record.end_s * 1e3))
    if record.ttft_s is not None:
        found.append(("chat", "ttft", record.ttft_s * 1e3))
    if record.itl_s is not None:
        found.append(("chat", "itl", record.itl_s * 1e3))
    if record.place_first is not None:
        found.append(("line", "place", float(record.place_first)))
        if record.ttft_s is not None:
            found.append(("line", "wait", record.ttft_s * 1e3))
            if record.eta_first_s is not None:
                error_s = abs(record.ttft_s - 1.0 - record.eta_first_s)
                found.append(("line", "eta error", error_s * 1e3))
    if record.outcome == "refused":
        found.append(("refused", f"{record.status} {record.reason}", record.end_s * 1e3))
    if record.outcome == "hung_up":
        found.append(("hang up", record.reason, record.end_s * 1e3))
    return found
