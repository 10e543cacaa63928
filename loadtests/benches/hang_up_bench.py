"""How long after a hang-up everything is free again, in each state, streaming and not.

One engine slot. In `prefill` and `streaming` the caller in the engine hangs up while another one
waits in line: the engine is free when the simulator counts the abort, the slot when the next
caller's request reaches the engine. In `queued` the caller in line hangs up: its ticket is gone
when `GET /v1/queue` no longer shows it. In each its tokens are back when what the day has been
charged on the flow Redis has fallen. Times count from closing the socket.
"""

import json
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis import Redis

from loadtests.accounts import Account
from loadtests.clients import http_probe
from loadtests.errors import MeasurementError
from loadtests.probes.day_charge import charged_today
from loadtests.results.report import Recorder, Table, verdict
from loadtests.stack.whole_stack import MODEL, Stack, StackPlan, plan_of

FREED_S_MAX = 1.0
STATE_S_MAX = 30.0
POLL_S = 0.005
STATES = ("queued", "prefill", "streaming")
TIMES = ("ticket_s", "engine_s", "slot_s", "tokens_s")
# A day's charge is kept only where there is a limit; this one is never met.
TOKENS_PER_DAY = 10**9


@dataclass(frozen=True)
class HangUpPlan:
    """How often each case, on an engine slow enough to be caught in each state."""

    rounds: int = 5
    prefill_words: int = 600
    slow_factor: float = 10.0
    output_tokens: int = 1000

    def quick(self) -> "HangUpPlan":
        """Once each."""
        return replace(self, rounds=1)

    def stack(self) -> StackPlan:
        """One replica with one slot."""
        return StackPlan(
            plans={"free": plan_of(tokens_per_day=TOKENS_PER_DAY)},
            replicas=1,
            slots_per_replica=1,
            settings={"FLOODGATE_QUEUE_NOTICE_JSON_S": "3600"},
        )


def run_hang_up_bench(plan: HangUpPlan, recorder: Recorder) -> list[Table]:
    """Every state, streaming and not, several times.

    Raises:
        BenchError: something did not start, or a state was not reached.
    """
    with (
        tempfile.TemporaryDirectory(prefix="floodgate-hang-up-") as name,
        Stack(plan.stack(), Path(name)) as stack,
    ):
        stack.simulator.inject("slow", factor=plan.slow_factor)
        bench = HangUps(stack, plan, *stack.accounts({"free": 2}))
        for number in range(plan.rounds):
            for state in STATES:
                for stream in (True, False):
                    freed = bench.measure(state, stream=stream)
                    recorder.add(kind="hang_up", round=number, state=state, stream=stream, **freed)
        stack.gateway.require_running()
    recorder.fact("hang_up_plan", asdict(plan))
    return [hang_up_table(recorder.runs)]


class HangUps:
    """One case at a time on a stack of one slot."""

    def __init__(self, stack: Stack, plan: HangUpPlan, caller: Account, other: Account) -> None:
        self._stack = stack
        self._plan = plan
        self._caller = caller
        self._other = other
        self._flow = Redis.from_url(stack.redis.flow_url, decode_responses=True)

    def measure(self, state: str, *, stream: bool) -> dict[str, float | None]:
        """Seconds until ticket, engine, slot and tokens are free; None where there is none."""
        if state == "queued":
            return self._measure_queued(stream=stream)
        # A streaming caller's prompt is short: its prefill must be over soon.
        words = self._plan.prefill_words if state == "prefill" else 4
        with closing(self._send(self._caller, stream=stream, words=words)) as connection:
            self._until(lambda: self._engine("requests_open") == 1, "in the engine")
            generated = self._engine("generation_tokens")
            with closing(self._send(self._other, stream=True, words=4)) as waiting:
                self._until(lambda: self._in_line(self._other) == 1, "somebody in line")
                if state == "streaming":
                    self._until(lambda: self._engine("generation_tokens") > generated, "generating")
                elif self._engine("generation_tokens") > generated:
                    raise MeasurementError("the prefill was over too soon")
                aborted, arrived = self._engine("aborted"), self._engine("arrived")
                charged = charged_today(self._flow)
                freed = self._freed(
                    hang_up(connection),
                    {
                        "engine_s": lambda: self._engine("aborted") > aborted,
                        "slot_s": lambda: self._engine("arrived") > arrived,
                        "tokens_s": lambda: charged_today(self._flow) < charged,
                    },
                )
                hang_up(waiting)
        self._until_idle()
        return freed

    def _measure_queued(self, *, stream: bool) -> dict[str, float | None]:
        with closing(self._send(self._other, stream=True, words=4)) as running:
            self._until(lambda: self._engine("requests_open") == 1, "in the engine")
            with closing(self._send(self._caller, stream=stream, words=4)) as connection:
                self._until(lambda: self._in_line(self._caller) == 1, "in line")
                charged = charged_today(self._flow)
                freed = self._freed(
                    hang_up(connection),
                    {
                        "ticket_s": lambda: self._in_line(self._caller) == 0,
                        "tokens_s": lambda: charged_today(self._flow) < charged,
                    },
                )
            hang_up(running)
        self._until_idle()
        return freed

    def _freed(
        self, closed_at_s: float, is_free: Mapping[str, Callable[[], bool]]
    ) -> dict[str, float | None]:
        """When each was free first, in seconds after the hang-up."""
        freed: dict[str, float | None] = dict.fromkeys(TIMES)
        left = dict(is_free)
        while left:
            for name in [name for name, free in left.items() if free()]:
                freed[name] = time.monotonic() - closed_at_s
                del left[name]
            if left:
                self._tick(closed_at_s, f"free after a hang-up: {', '.join(left)}")
        return freed

    def _send(self, account: Account, *, stream: bool, words: int) -> socket.socket:
        parts = urlsplit(self._stack.url)
        content = json.dumps(
            {
                "model": MODEL,
                "messages": [{"role": "user", "content": "river " * words}],
                "max_tokens": self._plan.output_tokens,
                "ignore_eos": True,
                "stream": stream,
            }
        ).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Authorization: Bearer {account.api_key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        connection = socket.create_connection((parts.hostname or "", parts.port or 80))
        connection.sendall(head.encode() + content)
        return connection

    def _in_line(self, account: Account) -> int:
        """How many requests of the account wait, as the account itself sees it."""
        answer = http_probe.call(
            "GET",
            f"{self._stack.url}/v1/queue",
            headers={"Authorization": f"Bearer {account.api_key}"},
        )
        if answer.status != 200:
            raise MeasurementError(f"/v1/queue answered {answer.status}: {answer.body[:200]!r}")
        return sum(len(model["waiting"]) for model in answer.json()["models"])

    def _stats(self) -> dict[str, Any]:
        (replica,) = self._stack.simulator.stats()
        return replica

    def _engine(self, name: str) -> float:
        return float(self._stats()[name])

    def _until_idle(self) -> None:
        self._until(lambda: self._engine("requests_open") == 0, "idle")
        self._until(
            lambda: self._in_line(self._caller) + self._in_line(self._other) == 0, "nobody in line"
        )

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        began_s = time.monotonic()
        while not condition():
            self._tick(began_s, what)

    def _tick(self, began_s: float, what: str) -> None:
        """Wait until the next look; raises MeasurementError when the state does not come."""
        if time.monotonic() - began_s > STATE_S_MAX:
            raise MeasurementError(f"not {what} after {STATE_S_MAX:.0f} s")
        time.sleep(POLL_S)


def hang_up(connection: socket.socket) -> float:
    """Close a connection; when that was, on the monotonic clock."""
    connection.close()
    return time.monotonic()


def hang_up_table(runs: list[dict[str, Any]]) -> Table:
    """The slowest of all rounds, for each case."""
    rows = []
    for state in STATES:
        for stream in (True, False):
            chosen = [
                run
                for run in runs
                if run["kind"] == "hang_up" and (run["state"], run["stream"]) == (state, stream)
            ]
            slowest = {
                name: max((run[name] for run in chosen if run[name] is not None), default=None)
                for name in TIMES
            }
            worst_s = max(value for value in slowest.values() if value is not None)
            rows.append(
                (
                    f"{state}, {'stream' if stream else 'JSON'}",
                    *("" if value is None else f"{value * 1e3:.0f}" for value in slowest.values()),
                    f"≤ {FREED_S_MAX * 1e3:.0f}",
                    verdict(worst_s, at_most=FREED_S_MAX),
                )
            )
    rounds = len({run["round"] for run in runs if run["kind"] == "hang_up"})
    return Table(
        "After a hang-up (ms): slowest of all rounds",
        (
            *("hung up while", "ticket gone", "engine free", "slot at the next", "tokens back"),
            *("goal", "verdict"),
        ),
        rows,
        notes=(f"{rounds} rounds; looked at every {POLL_S * 1e3:.0f} ms and a call",),
    )
