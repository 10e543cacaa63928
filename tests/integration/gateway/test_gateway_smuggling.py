"""Requests that two HTTP parsers may read differently: none gets through as two."""

import asyncio

import orjson
import pytest

from tests.gateway_process import GatewayProcess
from tests.scripted_engine import MODEL, ScriptedEngine

pytestmark = pytest.mark.integration

BODY = orjson.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]})
INNER = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"


def request(key: str, *headers: bytes, target: bytes = b"/v1/chat/completions") -> bytes:
    """Request line and headers of a good request, with further ones."""
    lines = [b"POST %s HTTP/1.1" % target, b"host: x", b"authorization: Bearer " + key.encode()]
    return b"\r\n".join([*lines, *headers]) + b"\r\n\r\n"


def sized(body: bytes = BODY) -> bytes:
    return b"content-length: %d" % len(body)


async def statuses(
    gateway: GatewayProcess, data: bytes, *, answers: int | None = None
) -> list[int]:
    """The statuses of all answers until the gateway closes, or of so many."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    found: list[int] = []
    try:
        writer.write(data)
        await writer.drain()
        while answers is None or len(found) < answers:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            found.append(int(head.split()[1]))
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            )
            await asyncio.wait_for(reader.readexactly(length), 30)
    except (asyncio.IncompleteReadError, ConnectionResetError):
        pass
    finally:
        writer.close()
    return found


@pytest.mark.parametrize(
    "headers",
    [
        (b"content-length: 6", b"transfer-encoding: chunked"),  # CL.TE
        (b"transfer-encoding: chunked", b"content-length: 6"),  # TE.CL
        (b"transfer-encoding: chunked, identity",),
        (b"transfer-encoding: xchunked",),
        (b"transfer-encoding: chunked", b"transfer-encoding: cow"),
        (b"transfer-encoding : chunked",),
        (b"content-length: 5", b"content-length: 6"),
        (b"content-length: 5, 6",),
        (b"content-length: +5",),
        (b"content-length: -5",),
        (b"content-length: 0x5",),
        (b"content-length: 5 5",),
        (b"content-length: 99999999999999999999999",),
        (b"x: a\r\n folded: b", b"content-length: 0"),  # obs-fold
        (b"x\x00y: b", b"content-length: 0"),
        (b"x: a\x00b", b"content-length: 0"),
        (b"x: a\rb: c", b"content-length: 0"),
        (b": empty", b"content-length: 0"),
    ],
)
async def test_ambiguous_framing_is_refused_and_the_connection_closed(
    gateway: GatewayProcess, engine: ScriptedEngine, api_key: str, headers: tuple[bytes, ...]
) -> None:
    data = request(api_key, *headers) + b"0\r\n\r\n" + INNER
    found = await statuses(gateway, data)
    assert found in ([400], [413]), found
    assert engine.requests == []


@pytest.mark.parametrize(
    "data",
    [
        b"POST /v1/chat/completions HTTP/1.1\nhost: x\ncontent-length: 0\n\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\ncontent-length: 0\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\n\r\n0\r\n\r\n",
        b"POST\t/v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1 x\r\nhost: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/2.0\r\nhost: x\r\n\r\n",
    ],
)
async def test_lines_that_end_in_lf_alone_and_odd_request_lines_are_refused(
    gateway: GatewayProcess, data: bytes
) -> None:
    assert await statuses(gateway, data) == [400]


@pytest.mark.parametrize(
    "body",
    [
        b"%x\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
        b"%x\r\n" % len(BODY) + BODY + b"0\r\n\r\n",
        b"-1\r\n" + BODY,
        b"0x10\r\n" + BODY,
        b"ffffffffffffffffff\r\n" + BODY,
        b"%x;\n\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
    ],
)
async def test_wrong_chunks_are_refused(
    gateway: GatewayProcess, engine: ScriptedEngine, api_key: str, body: bytes
) -> None:
    found = await statuses(gateway, request(api_key, b"transfer-encoding: chunked") + body + INNER)
    assert found == [400]
    assert engine.requests == []


async def test_chunk_extensions_and_trailers_change_nothing(
    gateway: GatewayProcess, engine: ScriptedEngine, api_key: str
) -> None:
    head = request(api_key, b"transfer-encoding: chunked", b"connection: close")
    chunks = b"%x;a=b;c\r\n" % len(BODY) + BODY + b"\r\n0\r\nx-request-id: evil\r\n\r\n"
    assert await statuses(gateway, head + chunks) == [200]
    seen = await engine.request(0)
    asked, sent = orjson.loads(seen.body), orjson.loads(BODY)
    assert {name: asked[name] for name in sent} == sent
    assert seen.headers["content-length"] == str(len(seen.body))
    assert "transfer-encoding" not in seen.headers
    assert seen.headers["x-request-id"] != "evil"


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (b"", b"1;" + b"a" * 65536 + b"\r\na\r\n"),  # extensions
        (b"1\r\na\r\n0\r\nx: ", b"a" * 65536),  # one trailer without an end
        (b"1\r\na\r\n0\r\n", b"x: " + b"a" * 8192 + b"\r\n"),  # trailers without number
    ],
)
async def test_floods_of_framing_are_cut(
    gateway: GatewayProcess, engine: ScriptedEngine, api_key: str, begin: bytes, again: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(api_key, b"transfer-encoding: chunked") + begin)
    sent = 0
    try:
        while not reader.at_eof() and sent < 64 * 1024 * 1024:
            writer.write(again)
            await writer.drain()
            sent += len(again)
            await asyncio.sleep(0)
    except ConnectionError:
        pass
    writer.close()
    assert sent < 64 * 1024 * 1024
    assert engine.requests == []


async def test_pipelined_requests_are_answered_in_order_each_for_itself(
    gateway: GatewayProcess, engine: ScriptedEngine, api_key: str
) -> None:
    good = request(api_key, sized()) + BODY
    stranger = request("fg-wrong", sized()) + BODY
    assert await statuses(gateway, good + stranger + good, answers=3) == [200, 401, 200]
    assert len(engine.requests) == 2


async def test_what_follows_a_body_is_a_request_of_its_own_without_the_key(
    gateway: GatewayProcess, engine: ScriptedEngine, api_key: str
) -> None:
    found = await statuses(gateway, request(api_key, sized()) + BODY + INNER, answers=2)
    assert found == [200, 401]
    assert len(engine.requests) == 1


@pytest.mark.parametrize(
    "target",
    [
        b"http://evil.example/v1/chat/completions",
        b"https://127.0.0.1:1/v1/chat/completions",
    ],
)
async def test_the_engine_is_chosen_by_the_gateway_whatever_the_target_says(
    gateway: GatewayProcess, engine: ScriptedEngine, api_key: str, target: bytes
) -> None:
    data = request(api_key, sized(), b"connection: close", target=target) + BODY
    found = await statuses(gateway, data)
    assert found in ([200], [400], [404]), found
    for seen in engine.requests:
        assert seen.raw.path == "/v1/chat/completions"
        assert "evil" not in seen.headers["host"]


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/chat/completions/../completions",
        b"/v1/chat/completions%2f..%2fcompletions",
        b"//v1/chat/completions",
        b"/v1/chat/completions%00",
        b"/v1/chat/completions;x",
        b"/V1/chat/completions",
        b"/v1/chat/completions/",
        b"*",
    ],
)
async def test_other_spellings_of_a_path_are_other_paths(
    gateway: GatewayProcess, engine: ScriptedEngine, api_key: str, target: bytes
) -> None:
    data = request(api_key, sized(), b"connection: close", target=target) + BODY
    found = await statuses(gateway, data)
    assert len(found) == 1
    assert found[0] in (307, 400, 404), found
    assert engine.requests == []


@pytest.mark.parametrize(
    "value", [b"a\x0bb", b"a b", b"a\x7fb", b"\xff\xfe", b"a" * 129, b"", b"a;b=c"]
)
async def test_only_harmless_request_ids_are_taken_over(
    gateway: GatewayProcess, engine: ScriptedEngine, api_key: str, value: bytes
) -> None:
    head = request(api_key, sized(), b"connection: close", b"x-request-id: " + value)
    found = await statuses(gateway, head + BODY)
    if found == [200]:
        seen = await engine.request(0)
        assert seen.headers["x-request-id"].startswith("req_")
    else:
        assert found == [400]
        assert engine.requests == []


async def test_a_model_name_with_line_ends_splits_nothing(
    gateway: GatewayProcess, engine: ScriptedEngine, api_key: str
) -> None:
    name = "scripted\r\nx-evil: 1\r\n\r\nHTTP/1.1 200 OK"
    body = orjson.dumps({"model": name, "messages": [{"role": "user", "content": "hi"}]})
    data = request(api_key, sized(body), b"connection: close") + body
    assert await statuses(gateway, data) == [404]
    assert engine.requests == []
