"""The flow Redis: named Lua scripts, sent in batches, each with a deadline.

The one module here that imports redis. Calls that arrive while a batch is under way form the
next batch, so under load one round trip and one pair of system calls carry many requests
(one EVALSHA through redis-py costs about 50 µs of a core by itself). Batches are written to one
connection, below redis-py's pipeline, whose bookkeeping and deadline for each single answer cost
more than the answers.
There is never more than one batch under way: whoever sees an answer knows that everything sent
before it has been executed.
"""

import asyncio
import time
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
# After a failure, calls are refused at once for this long instead of each waiting a deadline.
_PAUSE_AFTER_FAILURE_S = 0.5


@dataclass(slots=True)
class _Call:
    script: str
    keys: Sequence[str]
    args: Sequence[str | int] | Callable[[], Sequence[str | int]]
    answer: "asyncio.Future[Any]" = field(repr=False)

    def wire(self, sha: str) -> tuple[str | int, ...]:
        args = self.args() if callable(self.args) else self.args
        return ("EVALSHA", sha, len(self.keys), *self.keys, *args)


class FlowRedis:
    """Runs the scripts of gateway/lua on the flow Redis.

    Every failure of Redis is raised as FlowUnavailable. It recovers by itself: connections are
    made anew and scripts are loaded again when Redis was restarted.
    """

    def __init__(self, url: str, *, deadline_s: float, clock: Callable[[], float]) -> None:
        self._connection: redis.Connection = redis.ConnectionPool.from_url(
            url,
            # One deadline holds for a batch as a whole, see _execute.
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
        self._wake = asyncio.Event()
        self._paused_until = 0.0
        self._pump: asyncio.Task[None] | None = None
        self.available = False

    def start(self) -> None:
        self._pump = asyncio.create_task(self._send_batches(), name="flow-redis")

    async def close(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        self._fail(self._take_batch(), FlowUnavailable("the gateway is stopping"))
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
        return await self._enqueue(_Call(script, keys, args, self._new_future()), first=True)

    async def _enqueue(self, call: _Call, *, first: bool = False) -> Any:
        if self._clock() < self._paused_until:
            raise FlowUnavailable("the flow Redis did not answer a moment ago")
        if first:
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
            if not self._pending:
                self._wake.clear()
                await self._wake.wait()
            batch = self._take_batch()
            try:
                answers = await self._send(batch)
            except (RedisError, OSError, TimeoutError) as error:
                self.available = False
                self._paused_until = self._clock() + _PAUSE_AFTER_FAILURE_S
                self._fail(batch + self._pending, FlowUnavailable(f"flow Redis: {error}"))
                self._pending.clear()
                continue
            except asyncio.CancelledError:
                self._fail(batch, FlowUnavailable("the gateway is stopping"))
                raise
            self.available = True
            for call, answer in zip(batch, answers, strict=True):
                if call.answer.done():
                    continue
                if isinstance(answer, Exception):
                    call.answer.set_exception(FlowUnavailable(f"{call.script}.lua: {answer}"))
                else:
                    call.answer.set_result(answer)
            # Those who got an answer run before the next batch is made: its arguments may
            # depend on what they do with it (see run_first).
            await asyncio.sleep(0)

    async def _send(self, batch: list[_Call]) -> list[Any]:
        if not self._shas:
            await self._load_scripts()
        commands = [call.wire(self._shas[call.script]) for call in batch]
        answers = await self._execute(commands)
        missing = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missing:  # Redis was restarted; what it did not know, it did not execute
            await self._load_scripts()
            again = await self._execute([commands[i] for i in missing])
            for i, answer in zip(missing, again, strict=True):
                answers[i] = answer
        return answers

    async def _execute(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        """Answers and refusals in the order of the commands."""
        connection = self._connection
        try:
            async with asyncio.timeout(self._deadline_s):
                if not connection.is_connected:
                    await connection.connect()  # type: ignore[no-untyped-call]
                # hiredis's stubs ask for a tuple of one.
                packed = b"".join([hiredis.pack_command(c) for c in commands])  # type: ignore[arg-type]
                sent_at = time.perf_counter()
                await connection.send_packed_command(packed, check_health=False)
                answers = [await self._read_answer() for _ in commands]
                self._round_trips.observe(time.perf_counter() - sent_at)
                return answers
        except BaseException:
            # Answers may still come: this connection would give them to later calls.
            await connection.disconnect(nowait=True)
            raise

    async def _read_answer(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return error

    async def _load_scripts(self) -> None:
        files = sorted(_LUA.glob("*.lua"))
        shas = await self._execute([("SCRIPT", "LOAD", _with_include(file)) for file in files])
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
