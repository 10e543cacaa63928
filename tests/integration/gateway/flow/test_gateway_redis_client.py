"""The flow client against a redis-server that is restarted, killed and stopped."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from gateway.errors import FlowUnavailable
from gateway.flow import redis_keys
from gateway.flow.redis_client import FlowRedis
from tests.redis_server import RedisServer
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.integration


async def take(flow: FlowRedis, pool: str = "a", slots: int = 1) -> tuple[bool, int]:
    """A heartbeat that claims so many slots: whether Redis knew the worker, and its count."""
    said = {
        "worker": "0123456789ab", "lease_ms": 60_000, "keep_ms": 0, "slots": {"replica": slots},
        "requests": {}, "capacity": {}, "doubted": [], "acknowledged": [],
    }  # fmt: skip
    keys = (redis_keys.pool(pool), redis_keys.demand(pool))
    answer = await flow.run("renew_worker", keys, (json.dumps(said),))
    return bool(answer[1]), int(answer[5][1])


async def until_answering(flow: FlowRedis) -> None:
    while True:
        try:
            await take(flow, "probe")
        except FlowUnavailable:
            await asyncio.sleep(0.02)
        else:
            return


async def each_gets_its_own_answer(flow: FlowRedis, count: int) -> None:
    calls = (take(flow, f"pool-{slots}", slots) for slots in range(1, count + 1))
    answers = await asyncio.gather(*calls)
    assert [slots for _, slots in answers] == list(range(1, count + 1))


async def test_a_thousand_calls_at_once_each_get_their_own_answer(flow: FlowRedis) -> None:
    await each_gets_its_own_answer(flow, 1000)


async def test_scripts_are_loaded_again_after_a_restart(
    flow: FlowRedis, flow_server: RedisServer
) -> None:
    assert await take(flow) == (False, 1)
    assert await take(flow) == (True, 1)
    flow_server.restart()
    await until_answering(flow)
    assert await take(flow) == (False, 1), "the flow Redis keeps nothing"


async def test_a_flushed_script_cache_is_not_noticed(
    flow: FlowRedis, flow_server: RedisServer
) -> None:
    await take(flow)
    flow_server.make_ready()  # flushes data and scripts
    await each_gets_its_own_answer(flow, 50)


async def test_a_killed_redis_fails_every_caller_and_comes_back(
    flow: FlowRedis, flow_server: RedisServer
) -> None:
    await take(flow)
    assert flow.available
    flow_server.kill()
    results = await asyncio.gather(*(take(flow) for _ in range(100)), return_exceptions=True)
    assert all(isinstance(result, FlowUnavailable) for result in results)
    assert not flow.available
    flow_server.start()
    await until_answering(flow)
    assert flow.available


async def test_a_server_that_was_demoted_is_left_for_the_new_primary(
    connect: Callable[[str], FlowRedis], flow_server: RedisServer, tmp_path: Path
) -> None:
    """Its connections stay open: only its refusals tell."""
    primary = RedisServer.flow(tmp_path / "other")
    primary.password = flow_server.password
    with primary, redis.Redis.from_url(flow_server.url) as client:
        async with TcpProxy(flow_server.port) as proxy:
            flow = connect(flow_server.url_at(proxy.port))
            await take(flow)
            client.replicaof("127.0.0.1", primary.port)
            try:
                with pytest.raises(FlowUnavailable, match="READONLY"):
                    await take(flow)
                assert not flow.available
                proxy.lead_new_ones_to(primary.port)
                await until_answering(flow)
                assert flow.available
            finally:
                client.replicaof("NO", "ONE")


async def test_a_stopped_redis_hangs_nobody(flow: FlowRedis, flow_server: RedisServer) -> None:
    await take(flow)
    flow_server.pause()
    try:
        with pytest.raises(FlowUnavailable):
            await asyncio.wait_for(take(flow), 20)
        with pytest.raises(FlowUnavailable, match="a moment ago"):
            await take(flow)
    finally:
        flow_server.resume()
    await until_answering(flow)


async def test_a_redis_that_stops_while_it_is_connected_to_gives_no_later_call_its_answers(
    connect: Callable[[], FlowRedis], flow_server: RedisServer
) -> None:
    flow = connect()
    flow_server.pause()
    try:
        with pytest.raises(FlowUnavailable):
            await take(flow)
    finally:
        flow_server.resume()
    await until_answering(flow)
    await each_gets_its_own_answer(flow, 50)


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$4\r\n\xff\xfe\xfd\xfc\r\n"],
    ids=["not Redis", "not UTF-8"],
)
async def test_answers_that_cannot_be_are_nobodys(
    connect: Callable[[str], FlowRedis], flow_server: RedisServer, data: bytes
) -> None:
    """After them nothing on the connection can be told from something else: it is made anew."""
    async with TcpProxy(flow_server.port) as proxy:
        flow = connect(flow_server.url_at(proxy.port))
        await take(flow)
        flow_server.pause()  # a call is under way, and Redis does not answer it
        try:
            call = asyncio.create_task(take(flow))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            proxy.say(data)
            with pytest.raises(FlowUnavailable, match=r"flow Redis: (?!no answer)"):
                await asyncio.wait_for(call, 20)
        finally:
            flow_server.resume()
        await until_answering(flow)
        await each_gets_its_own_answer(flow, 50)


async def test_an_answer_that_nobody_asked_for_is_no_later_calls(
    connect: Callable[[str], FlowRedis], flow_server: RedisServer
) -> None:
    async with TcpProxy(flow_server.port) as proxy:
        flow = connect(flow_server.url_at(proxy.port))
        await take(flow)
        proxy.say(b"+OK\r\n")
        async with asyncio.timeout(20):
            while flow.available:
                await asyncio.sleep(0.01)
        await until_answering(flow)
        await each_gets_its_own_answer(flow, 50)


async def test_callers_that_leave_do_not_disturb_the_others(flow: FlowRedis) -> None:
    calls = [asyncio.create_task(take(flow)) for _ in range(100)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    stayed = [answer for answer in answers if isinstance(answer, tuple)]
    assert len(stayed) == 50


async def test_a_failure_just_as_a_call_comes_does_not_end_the_sending(flow: FlowRedis) -> None:
    """The sender has been woken for a call, and finds none: the failure has ended it already."""
    await take(flow)
    call = asyncio.create_task(take(flow))
    await asyncio.sleep(0)  # the call waits to be sent, and its sender to run
    flow._break_off(OSError("cut"))
    with pytest.raises(FlowUnavailable):
        await call
    async with asyncio.timeout(20):
        await until_answering(flow)


async def test_arguments_that_cannot_be_made_fail_their_call_and_nothing_after_it(
    flow: FlowRedis,
) -> None:
    def broken() -> list[str | int]:
        raise ZeroDivisionError("in the arguments")

    told = []
    loop = asyncio.get_running_loop()
    usual = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context))
    try:
        await take(flow)
        with pytest.raises(FlowUnavailable, match="in the arguments"):
            async with asyncio.timeout(20):
                await flow.run_first("renew_worker", (), broken)
    finally:
        loop.set_exception_handler(usual)  # all tests share the loop
    assert isinstance(told[0]["exception"], ZeroDivisionError)
    async with asyncio.timeout(20):
        await until_answering(flow)
