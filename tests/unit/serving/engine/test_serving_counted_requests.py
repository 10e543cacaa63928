"""What is inside a replica counts from the moment of its arrival."""

import asyncio
from typing import Any

import pytest

from serving.engine.counted_requests import CountedRequests
from serving.engine.replica_gate import Message, Scope


class Api:
    """Answers nothing before it is let; vLLM in its first step."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.fails = False

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        await self.let.wait()
        if self.fails:
            raise ConnectionError


async def no_message() -> Message:
    return {}


async def nowhere(message: Message) -> None:
    pass


def ask(requests: CountedRequests, kind: str = "http") -> asyncio.Task[None]:
    async def request() -> None:
        await requests({"type": kind}, no_message, nowhere)

    return asyncio.create_task(request())


async def test_a_request_counts_before_the_engine_has_said_anything() -> None:
    requests = CountedRequests(api := Api())
    asked = [ask(requests), ask(requests)]
    await asyncio.sleep(0)
    assert requests.unfinished == 2
    assert not await requests.all_ended(within_s=0)
    api.let.set()
    assert await requests.all_ended(within_s=30)
    await asyncio.gather(*asked)
    assert requests.unfinished == 0


@pytest.mark.parametrize("how", ["fails", "hangs up"])
async def test_one_that_ends_badly_is_not_counted_for_good(how: str) -> None:
    requests = CountedRequests(api := Api())
    asked = ask(requests)
    await asyncio.sleep(0)
    api.fails = True
    asked.cancel() if how == "hangs up" else api.let.set()
    assert await requests.all_ended(within_s=30)
    with pytest.raises((ConnectionError, asyncio.CancelledError)):
        await asked


async def test_who_comes_while_others_end_is_awaited_too() -> None:
    requests = CountedRequests(api := Api())
    first = ask(requests)
    ended = asyncio.create_task(requests.all_ended(within_s=30))
    await asyncio.sleep(0)
    second = ask(requests)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    assert requests.unfinished == 1
    assert not ended.done()
    api.let.set()
    assert await ended
    await second


async def test_the_servers_own_start_is_no_request() -> None:
    requests = CountedRequests(api := Api())
    started = ask(requests, "lifespan")
    await asyncio.sleep(0)
    assert requests.unfinished == 0
    api.let.set()
    await started
