import asyncio
from collections.abc import Callable

import pytest
from starlette.types import Message, Scope

from gateway.errors import BodyTooLarge, ClientGone
from gateway.request.request_body import DISCONNECT_EXTENSION, ClientWatch, read_body


class Messages:
    """An ASGI receive that hands out messages, then waits for one more."""

    def __init__(self, *messages: Message) -> None:
        self.queue: asyncio.Queue[Message] = asyncio.Queue()
        for message in messages:
            self.queue.put_nowait(message)

    async def __call__(self) -> Message:
        return await self.queue.get()


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_parts_are_joined() -> None:
    assert await read_body(Messages(part(b"ab", more=True), part(b"c", more=False)), 3) == b"abc"


async def test_a_body_past_its_bound_is_refused_before_its_end() -> None:
    with pytest.raises(BodyTooLarge):
        await read_body(Messages(part(b"ab", more=True), part(b"cd", more=True)), 3)


async def test_hanging_up_while_sending_is_noticed() -> None:
    with pytest.raises(ClientGone):
        await read_body(Messages(part(b"ab", more=True), {"type": "http.disconnect"}), 3)


class Caller:
    """Someone who may hang up, on a server that tells of it as ASGI does, or by the extension."""

    def __init__(self, *, extension: bool) -> None:
        self.receive = Messages()
        self.scope: Scope = {}
        self._told: Callable[[], None] | None = None
        if extension:
            self.scope["extensions"] = {DISCONNECT_EXTENSION: {"when_gone": self._when_gone}}

    def _when_gone(self, told: Callable[[], None] | None) -> None:
        self._told = told

    def hang_up(self) -> None:
        self.receive.queue.put_nowait({"type": "http.disconnect"})
        if self._told is not None:
            self._told()


@pytest.fixture(params=["asgi", "extension"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(extension=request.param == "extension")


async def test_the_watch_ends_the_work_when_the_caller_hangs_up(caller: Caller) -> None:
    working = asyncio.Event()
    cleaned_up = False

    async def work() -> None:
        nonlocal cleaned_up
        async with ClientWatch(caller.scope, caller.receive):
            try:
                working.set()
                await asyncio.Event().wait()
            finally:
                cleaned_up = True

    task = asyncio.create_task(work())
    await working.wait()
    caller.hang_up()
    with pytest.raises(ClientGone):
        await task
    assert cleaned_up


async def test_a_disarmed_watch_lets_the_last_byte_go_out(caller: Caller) -> None:
    async with ClientWatch(caller.scope, caller.receive) as watch:
        watch.disarm()
        caller.hang_up()
        for _ in range(5):
            await asyncio.sleep(0)


async def test_the_watch_is_over_with_the_work(caller: Caller) -> None:
    async with ClientWatch(caller.scope, caller.receive):
        pass
    caller.hang_up()
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_cancel_from_outside_stays_a_cancel(caller: Caller) -> None:
    working = asyncio.Event()

    async def work() -> None:
        async with ClientWatch(caller.scope, caller.receive):
            working.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await working.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
