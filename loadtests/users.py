"""Locust users that chat through the gateway and measure what a caller feels.

Metrics, in locust's own table, times in ms: `chat whole`, `chat ttft`, `chat itl` (a chat's
mean), `line wait` (until the first token, of chats that were told a place), `line place` (the
first place told; no time), `line eta error` (first estimate against the wait; by its size),
`refused <status> <reason>`, `hang up <where>`. Only undeclared errors and broken answers count
as locust's failures.
"""

from typing import Any

import gevent
from gevent.pool import Pool
from locust import User, constant, task

from loadtests.accounts import Account
from loadtests.chat_record import ChatRecord
from loadtests.gevent_chat import ChatAnswer, ChatConnection
from loadtests.load_run import LoadRun, record_of
from loadtests.retries import RETRIES_MAX, retry_in_s, told_to_wait_s

# A crowd that finds no answer piles up; past this the gateway has lost anyway.
CROWD_OPEN_MAX = 6_000
GIVEN_UP_S = 1.0


class Caller(User):
    """What all callers do: chat once, with the SDK's retries, and report it."""

    abstract = True
    wait_time = constant(0)
    kind = ""

    @property
    def run_shared(self) -> LoadRun:
        """What the users of this run share."""
        run: LoadRun = self.environment.load_run
        return run

    def account(self) -> Account:
        """Whose key this caller has."""
        return self.run_shared.next_account()

    def on_start(self) -> None:
        """Take an account and a connection."""
        self.own_account = self.account()
        self.connection = ChatConnection(self.host or "", self.own_account.api_key)

    def on_stop(self) -> None:
        """Hang up."""
        self.connection.close()

    def chat(self, *, patience_s: float | None = None) -> None:
        """One chat; refused, as often again as the SDKs try."""
        run = self.run_shared
        body = run.body()
        for attempt in range(RETRIES_MAX + 1):
            answer = ChatAnswer()
            try:
                self.connection.chat(body, answer, patience_s=patience_s)
            finally:
                # Also when locust ends this user in the middle of an answer.
                report(self.environment, answer, self.own_account, self.kind, attempt)
            wait_s = retry_in_s(answer.status, answer.headers, attempt, run.source)
            if wait_s is None:
                break
            gevent.sleep(wait_s)
        if not answer.is_whole and not answer.hung_up:
            # The SDK gave up; whoever called it does not come back at once.
            gevent.sleep(GIVEN_UP_S)


class PatientCaller(Caller):
    """One chat after the other."""

    kind = "patient"

    @task
    def talk(self) -> None:
        """Chat."""
        self.chat()


class GreedyCaller(Caller):
    """One of many connections of a single account."""

    kind = "greedy"

    def account(self) -> Account:
        """The greedy account."""
        return self.run_shared.greedy_account

    @task
    def talk(self) -> None:
        """Chat."""
        self.chat()


class ImpatientCaller(Caller):
    """Hangs up when the first token takes too long."""

    kind = "impatient"

    @task
    def talk(self) -> None:
        """Chat until patience ends."""
        run = self.run_shared
        self.chat(patience_s=run.patience_s * run.source.uniform(0.5, 1.5))


class Crowd(Caller):
    """Many callers in one: requests at times that do not depend on answers; no retries."""

    kind = "crowd"

    def on_start(self) -> None:
        """Nobody is here yet."""
        self.open = Pool(CROWD_OPEN_MAX)

    def on_stop(self) -> None:
        """Nobody comes any more; those who are here stay to the end."""

    @task
    def arrive(self) -> None:
        """Send one, then wait for the next arrival (exponential gaps: a Poisson process)."""
        run = self.run_shared
        self.open.spawn(self._chat_once, run.next_account())
        gevent.sleep(run.source.expovariate(run.crowd_per_s))

    def _chat_once(self, account: Account) -> None:
        connection, answer = ChatConnection(self.host or "", account.api_key), ChatAnswer()
        try:
            connection.chat(self.run_shared.body(), answer)
        finally:
            connection.close()
            report(self.environment, answer, account, self.kind, 0)


CALLERS: dict[str, type[Caller]] = {
    one.kind: one for one in (PatientCaller, GreedyCaller, ImpatientCaller, Crowd)
}


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
