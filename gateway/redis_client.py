"""The flow Redis: named Lua scripts, sent in batches, each with a deadline.

The one module here that imports redis. Calls that arrive while a batch is under way form the
next batch, so under load one round trip and one pair of system calls carry many requests
(one EVALSHA through redis-py costs about 50 µs of a core by itself). Batches are written to one
connection, below redis-py's pipeline, whose bookkeeping and deadline for each single answer cost
more than the answers.
Two batches may be under way: Redis works on one while the worker makes the other. Answers come in
the order of the calls.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hiredis
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from gateway.errors import FlowUnavailable
from gateway.metrics import REDIS

_LUA = Path(__file__).parent / "lua"
# A batch of 256 scripts takes Redis about 3 ms, a fraction of the deadline.
_BATCH_CALLS_MAX = 256
_UNDER_WAY_MAX = 2
# After a failure, calls are refused at once for this long instead of each waiting a deadline.
_PAUSE_AFTER_FAILURE_S = 0.5


@dataclass(slots=True)
class _Call:
    script: str
    keys: Sequence[str]
    args: Sequence[str | int] | Callable[[], Sequence[str | int]]
    answer: "asyncio.Future[Any]" = field(repr=False)
    # Sent while no other call is unanswered.
    alone: bool = False

    def wire(self, sha: str) -> tuple[str | int, ...]:
        args = self.args() if callable(self.args) else self.args
        return ("EVALSHA", sha, len(self.keys), *self.keys, *args)


@dataclass(frozen=True, slots=True)
class _Batch:
    calls: list[_Call]
    sent_at: float  # time.perf_counter


class FlowRedis:
    """Runs the scripts of gateway/lua on the flow Redis.

    Every failure of Redis is raised as FlowUnavailable. It recovers by itself: connections are
    made anew and scripts are loaded again when Redis was restarted.
    """

    def __init__(self, url: str, *, deadline_s: float, clock: Callable[[], float]) -> None:
        self._connection: redis.Connection = redis.ConnectionPool.from_url(
            url,
            # One deadline holds for a batch as a whole, see _read_batches.
            socket_timeout=None,
            socket_connect_timeout=deadline_s,
            # A script that takes a slot must not be sent twice: no retries below us.
            retry=Retry(NoBackoff(), 0),
            client_name="floodgate-gateway",
            decode_responses=True,
        ).make_connection()  # type: ignore[no-untyped-call]
        self._deadline_s = deadline_s
        self._clock = clock
        self._round_trips = REDIS.labels("flow")
        self._shas: dict[str, str] = {}
        self._pending: list[_Call] = []
        self._under_way: deque[_Batch] = deque()
        self._wake = asyncio.Event()  # there are calls to send
        self._room = asyncio.Event()  # a batch less is under way
        self._answerable = asyncio.Event()  # a batch more is under way
        self._paused_until = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self.available = False

    def start(self) -> None:
        for name, work in (("send", self._send_batches()), ("read", self._read_batches())):
            self._tasks.append(asyncio.create_task(work, name=f"flow-redis-{name}"))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail_all(FlowUnavailable("the gateway is stopping"))
        await self._connection.disconnect()

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Runs one script and returns what it returns.

        Raises:
            FlowUnavailable: Redis is gone, slower than the deadline, or refuses the script.
        """
        return await self._enqueue(_Call(script, keys, args, self._new_future()))

    async def run_first(
        self, script: str, keys: Sequence[str], args: Callable[[], Sequence[str | int]]
    ) -> Any:
        """The same, at the head of the next batch, its arguments made as that batch is sent.

        No call is unanswered at that moment, so the arguments may describe this worker's state.
        """
        return await self._enqueue(_Call(script, keys, args, self._new_future(), alone=True))

    async def _enqueue(self, call: _Call) -> Any:
        if self._clock() < self._paused_until:
            raise FlowUnavailable("the flow Redis did not answer a moment ago")
        if call.alone:
            self._pending.insert(0, call)
        else:
            self._pending.append(call)
        self._wake.set()
        return await call.answer

    def _new_future(self) -> "asyncio.Future[Any]":
        return asyncio.get_running_loop().create_future()

    def _take_batch(self) -> list[_Call]:
        batch = self._pending[:_BATCH_CALLS_MAX]
        del self._pending[:_BATCH_CALLS_MAX]
        return batch

    async def _send_batches(self) -> None:
        while True:
            await self._until_sendable()
            batch = self._take_batch()
            try:
                async with asyncio.timeout(self._deadline_s):
                    if not self._connection.is_connected:
                        await self._connection.connect()  # type: ignore[no-untyped-call]
                    if not self._shas:
                        await self._load_scripts()
                    sent_at = time.perf_counter()
                    await self._write([call.wire(self._shas[call.script]) for call in batch])
            except (RedisError, OSError, TimeoutError) as error:
                await self._break_off(error, batch)
            except asyncio.CancelledError:
                self._fail(batch, FlowUnavailable("the gateway is stopping"))
                raise
            else:
                self._under_way.append(_Batch(batch, sent_at))
                self._answerable.set()

    async def _until_sendable(self) -> None:
        """Until there are calls, and room for another batch under way."""
        while True:
            while not self._pending:  # a failure may have ended the calls that it was woken for
                self._wake.clear()
                await self._wake.wait()
            by_itself = self._pending[0].alone or not self._shas
            if len(self._under_way) < (1 if by_itself else _UNDER_WAY_MAX):
                return
            self._room.clear()
            await self._room.wait()

    async def _read_batches(self) -> None:
        while True:
            if not self._under_way:
                self._answerable.clear()
                await self._answerable.wait()
            batch = self._under_way[0]
            left_s = batch.sent_at + self._deadline_s - time.perf_counter()
            try:
                async with asyncio.timeout(left_s):
                    answers = [await self._read_answer() for _ in batch.calls]
            except (RedisError, OSError, TimeoutError) as error:
                await self._break_off(error, [])
                continue
            self._round_trips.observe(time.perf_counter() - batch.sent_at)
            self.available = True
            self._hand_out(batch.calls, answers)
            # It counts as under way until those who got an answer have run: arguments that are
            # made then may depend on what they do with it (see run_first).
            await asyncio.sleep(0)
            if self._under_way and self._under_way[0] is batch:
                self._under_way.popleft()
            self._room.set()

    def _hand_out(self, calls: Sequence[_Call], answers: Sequence[Any]) -> None:
        unknown = []
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, NoScriptError):  # what Redis did not know, it did not execute
                unknown.append(call)
            elif call.answer.done():
                continue
            elif isinstance(answer, Exception):
                call.answer.set_exception(FlowUnavailable(f"{call.script}.lua: {answer}"))
            else:
                call.answer.set_result(answer)
        if unknown:
            self._shas = {}
            self._pending[:0] = unknown
            self._wake.set()

    async def _break_off(self, error: Exception, unsent: Sequence[_Call]) -> None:
        """Fails all that waits for an answer, and begins anew with the next call."""
        self.available = False
        self._paused_until = self._clock() + _PAUSE_AFTER_FAILURE_S
        told = FlowUnavailable(f"flow Redis: {error}")
        self._fail(unsent, told)
        self._fail_all(told)
        # Answers may still come: this connection would give them to later calls. A Redis that
        # was restarted in between knows no script.
        self._shas = {}
        self._room.set()
        await self._connection.disconnect(nowait=True)

    def _fail_all(self, error: FlowUnavailable) -> None:
        """Whatever is under way or waits to be sent."""
        for batch in self._under_way:
            self._fail(batch.calls, error)
        self._fail(self._pending, error)
        self._under_way.clear()
        self._pending.clear()

    async def _write(self, commands: Sequence[tuple[str | int, ...]]) -> None:
        # hiredis's stubs ask for a tuple of one.
        packed = b"".join([hiredis.pack_command(c) for c in commands])  # type: ignore[arg-type]
        await self._connection.send_packed_command(packed, check_health=False)

    async def _read_answer(self) -> Any:
        """An answer or a refusal."""
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return error

    async def _load_scripts(self) -> None:
        """While nothing is under way: its answers would come first."""
        files = sorted(_LUA.glob("*.lua"))
        await self._write([("SCRIPT", "LOAD", _with_include(file)) for file in files])
        shas = [await self._read_answer() for _ in files]
        for sha in shas:
            if isinstance(sha, Exception):
                raise sha
        self._shas = {file.stem: str(sha) for file, sha in zip(files, shas, strict=True)}

    @staticmethod
    def _fail(calls: Sequence[_Call], error: FlowUnavailable) -> None:
        for call in calls:
            if not call.answer.done():
                call.answer.set_exception(error)


def _with_include(file: Path) -> str:
    """A script's text, its first line `--!include X` replaced by lua/include/X."""
    text = file.read_text()
    first, _, rest = text.partition("\n")
    if not first.startswith("--!include "):
        return text
    return (_LUA / "include" / first.removeprefix("--!include ")).read_text() + rest
