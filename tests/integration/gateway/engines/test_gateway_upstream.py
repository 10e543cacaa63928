"""The engine client on real sockets, against an engine that sends exact bytes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from gateway.engines.upstream import EngineAnswer, Upstream
from gateway.errors import EngineBroken, EngineUnreachable
from tests.free_ports import free_port

pytestmark = pytest.mark.integration

PATH = "/v1/chat/completions"
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = STREAM + b"transfer-encoding: chunked\r\n\r\n"


class RawEngine:
    """Answers each request with the next of its scripts: bytes to send, None to hang up."""

    def __init__(self) -> None:
        self.scripts: list[list[bytes | None]] = []
        self.heads: list[bytes] = []
        self.connections = 0
        self.closed_by_peer = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                for piece in self.scripts.pop(0):
                    if piece is None:
                        writer.close()
                        return
                    writer.write(piece)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed_by_peer.set()
        finally:
            writer.close()


@pytest.fixture
async def raw() -> AsyncIterator[RawEngine]:
    engine = RawEngine()
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    engine.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield engine


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with AsyncExitStack() as stack:
        made = Upstream(engine_secret="s3cret", api_key="")
        stack.push_async_callback(made.close)
        yield made


@pytest.fixture
def ask(raw: RawEngine, upstream: Upstream) -> Callable[..., "asyncio.Future[EngineAnswer]"]:
    def send(body: bytes = b"{}") -> "asyncio.Future[EngineAnswer]":
        return asyncio.ensure_future(upstream.post(raw.url, PATH, body, {"x-request-id": "req_1"}))

    return send


Ask = Callable[..., "asyncio.Future[EngineAnswer]"]


@pytest.mark.parametrize(
    ("script", "body"),
    [
        ([OK + b"content-length: 5\r\n\r\nhello"], b"hello"),
        ([OK + b"content-length: 5\r\n\r\n", b"he", b"llo"], b"hello"),
        ([OK + b"content-length: 0\r\n\r\n"], b""),
        ([CHUNKED + b"3\r\nhel\r\n", b"2\r\nlo\r\n", b"0\r\n\r\n"], b"hello"),
        ([OK[:10], OK[10:] + b"conte", b"nt-length: 5\r\n\r\nhello"], b"hello"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", OK + b"content-length: 5\r\n\r\nhello"], b"hello"),
    ],
    ids=["whole", "in pieces", "empty", "chunked", "head in pieces", "after 100"],
)
async def test_answers_come_whole_and_leave_their_connection_to_the_next(
    raw: RawEngine, ask: Ask, script: list[bytes | None], body: bytes
) -> None:
    raw.scripts = [script, script]
    for _ in range(2):
        with await ask() as answer:
            assert answer.status == 200
            assert await answer.whole() == body
    assert raw.connections == 1


async def test_an_answer_without_length_ends_with_its_connection(raw: RawEngine, ask: Ask) -> None:
    raw.scripts = [[OK + b"\r\nhel", b"lo", None]] * 2
    for _ in range(2):
        with await ask() as answer:
            assert answer.content_length is None
            assert await answer.whole() == b"hello"
    assert raw.connections == 2


async def test_the_head_names_host_secret_and_request(raw: RawEngine, ask: Ask) -> None:
    raw.scripts = [[OK + b"content-length: 0\r\n\r\n"]]
    with await ask(b"12345"):
        pass
    first, *lines = raw.heads[0].decode().rstrip().split("\r\n")
    assert first == f"POST {PATH} HTTP/1.1"
    assert set(lines) == {
        f"host: {raw.url.removeprefix('http://')}",
        "content-type: application/json",
        "content-length: 5",
        "x-floodgate-engine-secret: s3cret",
        "x-request-disconnect-disabled: ?1",
        "x-request-id: req_1",
    }


async def test_a_piece_passes_before_the_next_is_sent(raw: RawEngine, ask: Ask) -> None:
    raw.scripts = [[CHUNKED, b"3\r\none\r\n"]]
    with await ask() as answer:
        assert await answer.read() == b"one"


@pytest.mark.parametrize(
    "script",
    [
        [OK + b"content-length: 5\r\n\r\nhel", None],
        [CHUNKED + b"3\r\nhel\r\n", None],
        [CHUNKED + b"3\r\nhel\r\nnonsense"],
    ],
    ids=["short of its length", "short of its last chunk", "not a chunk"],
)
async def test_a_body_that_breaks_off_is_told(
    raw: RawEngine, ask: Ask, script: list[bytes | None]
) -> None:
    raw.scripts = [script]
    with await ask() as answer:
        assert answer.status == 200
        with pytest.raises(EngineBroken):
            await answer.whole()


@pytest.mark.parametrize(
    "script",
    [
        [None],
        [OK, None],
        [b"220 mail.example.com ESMTP\r\n"],
        [OK + b"x: " + b"y" * 100_000],
        [b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n"],
    ],
    ids=["nothing", "half a head", "another protocol", "an endless head", "an upgrade"],
)
async def test_no_answer_means_unreachable(
    raw: RawEngine, ask: Ask, script: list[bytes | None]
) -> None:
    raw.scripts = [script]
    with pytest.raises(EngineUnreachable):
        await ask()


async def test_a_closed_port_is_unreachable(upstream: Upstream) -> None:
    with pytest.raises(EngineUnreachable):
        await upstream.post(f"http://127.0.0.1:{free_port()}", PATH, b"{}", {})


async def test_a_cancelled_request_closes_its_connection(raw: RawEngine, ask: Ask) -> None:
    raw.scripts = [[]]
    call = ask()
    while not raw.heads:
        await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.wait_for(raw.closed_by_peer.wait(), 10)


async def test_an_answer_left_early_closes_its_connection(raw: RawEngine, ask: Ask) -> None:
    raw.scripts = [[CHUNKED + b"3\r\nhel\r\n"]]
    with await ask():
        pass
    await asyncio.wait_for(raw.closed_by_peer.wait(), 10)


@pytest.mark.parametrize(
    "script",
    [
        [OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello"],
        [OK + b"content-length: 5\r\n\r\nhello" + OK + b"content-length: 5\r\n\r\nstray"],
        [OK + b"content-length: 5\r\n\r\nhello", None],
    ],
    ids=["said to close", "a second answer", "closed"],
)
async def test_a_spent_connection_is_not_used_again(
    raw: RawEngine, ask: Ask, script: list[bytes | None]
) -> None:
    raw.scripts = [script, [OK + b"content-length: 2\r\n\r\nok"]]
    with await ask() as answer:
        assert await answer.whole() == b"hello"
    await asyncio.wait_for(raw_is_left(raw, script), 10)
    with await ask() as answer:
        assert await answer.whole() == b"ok"
    assert raw.connections == 2


async def raw_is_left(raw: RawEngine, script: list[bytes | None]) -> None:
    """Waits until the first connection is closed, by whichever side."""
    if script[-1] is not None:
        await raw.closed_by_peer.wait()
    for _ in range(10):  # the close has been sent; it arrives in one of the next turns
        await asyncio.sleep(0.01)


async def test_a_slow_reader_holds_the_engine_back(raw: RawEngine, ask: Ask) -> None:
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    raw.scripts = [[CHUNKED, *[piece] * 1000, b"0\r\n\r\n"]]
    with await ask() as answer:
        connection = answer._connection
        while not connection._paused:
            await asyncio.sleep(0.01)
        assert connection._buffered_bytes < 2_000_000
        assert len(await answer.whole()) == 1000 * 0x10000


async def test_a_replica_that_seems_gone_is_given_up_where_nothing_came_for_too_long(
    raw: RawEngine, upstream: Upstream, ask: Ask
) -> None:
    """What still comes tells that it lives, whatever its records say."""
    raw.scripts = [[CHUNKED, b"5\r\nhello\r\n"]]
    with await ask() as answer:
        assert await answer.read() == b"hello"
        assert upstream.give_up(raw.url, silent_s_max=600), "somebody still hears from it"
        rest = asyncio.ensure_future(answer.read())
        await asyncio.sleep(0)
        assert not upstream.give_up(raw.url, silent_s_max=0)
        with pytest.raises(EngineBroken, match="the replica is gone"):
            await rest
    await raw.closed_by_peer.wait()
    assert not upstream.give_up(raw.url, silent_s_max=0), "nobody knows it any more"
