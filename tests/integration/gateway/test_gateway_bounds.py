"""What a hostile or broken client may send: raw sockets against the real gateway."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest

from tests.gateway_process import GatewayProcess

pytestmark = pytest.mark.integration

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture
async def strict(start_gateway) -> AsyncIterator[GatewayProcess]:  # type: ignore[no-untyped-def]
    async with start_gateway(
        header_bytes_max=4096, header_time_s_max=2, body_time_s_max=2, body_bytes_max=10_000
    ) as gateway:
        yield gateway


async def exchange(gateway: GatewayProcess, *pieces: bytes) -> tuple[int, str]:
    """Sends the pieces, then reads until the gateway closes. Returns status and error code."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 20)
    except ConnectionResetError:
        return 0, "reset"
    finally:
        writer.close()
    if not answer:
        return 0, "closed"
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), orjson.loads(body)["error"]["code"]


async def test_bounds_on_headers_and_body(strict: GatewayProcess) -> None:
    many = b"".join(b"x-%d: %s\r\n" % (n, b"v" * 50) for n in range(200))
    assert await exchange(strict, HEAD + many + b"\r\n") == (431, "headers_too_large")
    assert await exchange(strict, HEAD + b"x: " + b"v" * 10_000) == (431, "headers_too_large")
    line = b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    assert await exchange(strict, line) == (431, "headers_too_large")
    announced = HEAD + b"content-length: 10001\r\n\r\n"
    assert await exchange(strict, announced) == (413, "body_too_large")


async def test_slow_clients_are_cut(strict: GatewayProcess) -> None:
    assert await exchange(strict, HEAD) == (408, "request_timeout")
    assert await exchange(strict, b"") == (408, "request_timeout")
    slow_body = HEAD + b"content-length: 100\r\n\r\n{"
    # Without a key the refusal comes first, and the connection is closed in silence.
    assert await exchange(strict, slow_body) == (401, "missing_api_key")


@pytest.mark.parametrize("part", ["headers", "body"])
async def test_a_client_that_trickles_is_cut_although_it_never_stops(
    strict: GatewayProcess, api_key: str, part: str
) -> None:
    """A byte each tenth of a second: each is a sign of life, and the time is for the whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", strict.port)
    writer.write(HEAD + b"authorization: Bearer " + api_key.encode() + b"\r\n")
    if part == "body":
        writer.write(b"content-length: 9000\r\n\r\n")
    answer = asyncio.create_task(reader.read())
    while not answer.done():
        with contextlib.suppress(ConnectionError):
            writer.write(b"x")
            await writer.drain()
        await asyncio.wait([answer], timeout=0.1)
    head, _, body = answer.result().partition(b"\r\n\r\n")
    assert (head.split()[1], orjson.loads(body)["error"]["code"]) == (b"408", "request_timeout")
    writer.close()


async def test_a_body_that_stops_half_way_is_cut(strict: GatewayProcess, api_key: str) -> None:
    head = HEAD + b"authorization: Bearer " + api_key.encode() + b"\r\n"
    answer = await exchange(strict, head + b"content-length: 100\r\n\r\n{")
    assert answer == (408, "request_timeout")


async def test_a_body_that_outlasts_a_stopping_gateway_is_refused_in_words(
    start_gateway: Callable[..., GatewayProcess], api_key: str
) -> None:
    head = HEAD + b"authorization: Bearer " + api_key.encode() + b"\r\n"
    async with start_gateway(gateway_drain_s_max=1) as gateway:
        sending = asyncio.create_task(exchange(gateway, head + b"content-length: 100\r\n\r\n{"))
        while await gateway.metric("floodgate_requests_active") != 2:  # this look is one
            await asyncio.sleep(0.02)
        await asyncio.to_thread(gateway.stop)
        assert await sending == (503, "draining")


async def test_a_chunked_body_past_its_bound_is_refused(
    strict: GatewayProcess, api_key: str
) -> None:
    head = HEAD + b"authorization: Bearer " + api_key.encode() + b"\r\nconnection: close\r\n"
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    answer = await exchange(strict, head + b"transfer-encoding: chunked\r\n\r\n" + chunk * 4)
    assert answer == (413, "body_too_large")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS hello
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header: 1\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(gateway: GatewayProcess, nonsense: bytes) -> None:
    assert await exchange(gateway, nonsense) == (400, "invalid_http")


async def test_a_client_that_sends_nothing_does_not_hold_up_others(
    gateway: GatewayProcess, client: object
) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(200)]
    await gateway.until_ready()
    for _, writer in idle:
        writer.close()


async def test_a_caller_whose_machine_is_gone_is_looked_for(gateway: GatewayProcess) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    port = writer.get_extra_info("sockname")[1]
    ends = f":{gateway.port:04X}", f":{port:04X}"
    async with asyncio.timeout(20):
        while kernel_timer(*ends) != "02":  # until the answer is confirmed it is another timer
            await asyncio.sleep(0.02)
    writer.close()


def kernel_timer(local: str, remote: str) -> str:
    """The timer that the kernel runs for a connection: 01 retransmission, 02 keep-alive."""
    for row in Path("/proc/net/tcp").read_text().splitlines():
        fields = row.split()
        if fields[1].endswith(local) and fields[2].endswith(remote):
            return fields[5].partition(":")[0]
    raise AssertionError("no such connection")
