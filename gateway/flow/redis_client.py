"""The flow Redis: named Lua scripts, sent in batches, each with a deadline.

All calls of one turn of the loop travel together, and those that arrive while two batches are under
way form the next one: under load one round trip and one pair of system calls carry many requests
(one EVALSHA through redis-py costs about 50 µs of a core by itself). With two under way Redis works
on one while the worker makes the other. Answers come in the order of the calls.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import FlowUnavailable
from gateway.flow.lua_scripts import read_scripts
from gateway.flow.redis_call import Args, Call
from gateway.flow.redis_wire import RedisConnector, RedisRefusal, RedisWire
from gateway.telemetry.metrics import REDIS

# A batch of 256 scripts takes Redis about 3 ms, a fraction of the deadline.
_BATCH_CALLS_MAX = 256
_UNDER_WAY_MAX = 2
# After a failure, calls are refused at once for this long instead of each waiting a deadline.
_PAUSE_AFTER_FAILURE_S = 0.5

_Command = tuple[str | int, ...]


@dataclass(slots=True)
class _Batch:
    calls: Sequence[Call]
    sent_at: float  # time.perf_counter
    answers: list[Any] = field(default_factory=list)


class FlowRedis:
    """Runs the scripts of gateway/flow/lua on the flow Redis. To be made inside its loop.

    Every failure of Redis is raised as FlowUnavailable. It recovers by itself: connections are
    made anew and scripts are loaded again when Redis was restarted.
    """

    def __init__(self, url: str, *, deadline_s: float, clock: Callable[[], float]) -> None:
        self._connector = RedisConnector(url, deadline_s=deadline_s)
        self._wire: RedisWire | None = None
        self._loop = asyncio.get_running_loop()
        self._deadline_s = deadline_s
        self.deadline_us = round(deadline_s * 1_000_000)
        self._clock = clock
        self._round_trips = REDIS.labels("flow")
        self._shas: dict[str, str] = {}
        self._pending: list[Call] = []
        self._unanswered: deque[_Batch] = deque()
        self._settling = 0  # batches whose callers have an answer and have not run yet
        self._is_sending = False
        self._preparing: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._paused_until = 0.0
        self.available = False

    async def close(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
        if self._watch is not None:
            self._watch.cancel()
        self._paused_until = float("inf")
        self._fail_all(FlowUnavailable("the gateway is stopping"))
        if self._wire is not None:
            self._wire.cut()

    async def run(self, script: str, keys: Sequence[str], args: Args) -> Any:
        """Runs one script and returns what it returns.

        Raises:
            FlowUnavailable: Redis is gone, slower than the deadline, or refuses the script.
        """
        return await self.call(script, keys, args).answer

    def call(self, script: str, keys: Sequence[str], args: Args) -> Call:
        """The same for a caller who awaits `answer` and leaves it to somebody when cancelled.

        Raises:
            FlowUnavailable: it was not sent, since Redis did not answer a moment ago.
        """
        call = Call(script, keys, args, self._loop.create_future())
        self._queue(call, len(self._pending))
        return call

    async def run_first(self, script: str, keys: Sequence[str], args: Callable[[], Args]) -> Any:
        """The same, at the head of the next batch, its arguments made as that batch is sent.

        No call is unanswered at that moment, so the arguments may describe this worker's state.
        """
        call = Call(script, keys, args, self._loop.create_future(), alone=True)
        return await self._queue(call, 0)

    def _queue(self, call: Call, place: int) -> "asyncio.Future[Any]":
        if self._clock() < self._paused_until:
            raise FlowUnavailable("the flow Redis did not answer a moment ago")
        self._pending.insert(place, call)
        self._send_soon()
        return call.answer

    # Out ----------------------------------------------------------------------------------------

    def _send_soon(self) -> None:
        if not self._is_sending:
            self._is_sending = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        """As many batches as there is room for."""
        self._is_sending = False
        while self._pending:
            by_itself = self._pending[0].alone or not self._shas
            if self._under_way >= (1 if by_itself else _UNDER_WAY_MAX):
                return
            if self._wire is None or not self._shas:
                if self._preparing is None:
                    self._preparing = asyncio.create_task(self._prepare(), name="flow-redis")
                return
            calls = self._pending[:_BATCH_CALLS_MAX]
            try:
                commands = [call.wire(self._shas[call.script]) for call in calls]
            except Exception as error:  # a mistake of ours must not leave its callers waiting
                self._break_off(error)
                raise
            del self._pending[:_BATCH_CALLS_MAX]
            self._send_batch(self._wire, calls, commands)

    @property
    def _under_way(self) -> int:
        return len(self._unanswered) + self._settling

    def _send_batch(
        self, wire: RedisWire, calls: Sequence[Call], commands: Sequence[_Command]
    ) -> None:
        wire.send(commands)
        self._unanswered.append(_Batch(calls, time.perf_counter()))
        if self._watch is None:
            self._watch = self._loop.call_later(self._deadline_s, self._look_at_deadline)

    async def _prepare(self) -> None:
        """Connects and loads the scripts; nothing is under way meanwhile."""
        try:
            async with asyncio.timeout(self._deadline_s):
                if self._wire is None:
                    connect = self._connector.connect
                    self._wire = await connect(self._take_answers, self._break_off)
                scripts = read_scripts()
                loads = [Call(name, (), (), self._loop.create_future()) for name in scripts]
                commands = [("SCRIPT", "LOAD", text) for text in scripts.values()]
                self._send_batch(self._wire, loads, commands)
                shas = await asyncio.gather(*(load.answer for load in loads))
        except (FlowUnavailable, TimeoutError) as error:
            self._break_off(error)
        else:
            self._shas = {load.script: sha for load, sha in zip(loads, shas, strict=True)}
        finally:
            self._preparing = None
        self._send_soon()

    # In -----------------------------------------------------------------------------------------

    def _take_answers(self, answers: Sequence[Any]) -> None:
        taken = 0
        while taken < len(answers):
            if not self._unanswered:
                self._break_off(ValueError("an answer that nobody asked for"))
                return
            batch = self._unanswered[0]
            missing = len(batch.calls) - len(batch.answers)
            batch.answers += answers[taken : taken + missing]
            taken += missing
            if len(batch.answers) == len(batch.calls):
                self._unanswered.popleft()
                self._end_batch(batch)

    def _end_batch(self, batch: _Batch) -> None:
        self._round_trips.observe(time.perf_counter() - batch.sent_at)
        if self._shas:  # a replica, too, takes scripts: only calls tell
            self.available = True
        if unfit := self._hand_out(batch):
            # A failover moves its name, or its address, to another server: connect anew.
            self._break_off(unfit)
            return
        # It counts as under way until those who got an answer have run: arguments that are made
        # then may depend on what they do with it (see run_first).
        self._settling += 1
        self._loop.call_soon(self._settle)

    def _settle(self) -> None:
        self._settling -= 1
        self._send()

    def _hand_out(self, batch: _Batch) -> RedisRefusal | None:
        """The refusal of a server that can serve nobody now, where there is one."""
        unknown, unfit = [], None
        for call, answer in zip(batch.calls, batch.answers, strict=True):
            if isinstance(answer, RedisRefusal):
                if answer.is_of_the_server:
                    unfit = answer
                if answer.is_unknown_script:
                    unknown.append(call)
                elif not call.answer.done():
                    call.answer.set_exception(FlowUnavailable(f"{call.script}.lua: {answer}"))
            else:
                call.hand_over(answer)
        if unknown:
            self._shas = {}
            self._pending[:0] = unknown
        return unfit

    # Failures -----------------------------------------------------------------------------------

    def _look_at_deadline(self) -> None:
        """One timer for all batches: the oldest's time is over, or it looks again when it is."""
        self._watch = None
        if not self._unanswered:
            return
        left_s = self._unanswered[0].sent_at + self._deadline_s - time.perf_counter()
        if left_s > 0:
            self._watch = self._loop.call_later(left_s, self._look_at_deadline)
        else:
            self._break_off(TimeoutError(f"no answer in {self._deadline_s:g} s"))

    def _break_off(self, error: Exception) -> None:
        """Fails all that waits for an answer, and begins anew with the next call."""
        self.available = False
        self._paused_until = self._clock() + _PAUSE_AFTER_FAILURE_S
        # Answers may still come: this connection would give them to later calls. A Redis that
        # was restarted in between knows no script.
        self._shas = {}
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.cut()
        self._fail_all(FlowUnavailable(f"flow Redis: {str(error) or 'no answer in time'}"))

    def _fail_all(self, error: FlowUnavailable) -> None:
        """Whatever is under way or waits to be sent."""
        calls = [call for batch in self._unanswered for call in batch.calls] + self._pending
        self._unanswered.clear()
        self._pending.clear()
        for call in calls:
            if not call.answer.done():
                call.answer.set_exception(error)
