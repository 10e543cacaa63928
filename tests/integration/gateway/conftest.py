"""A flow client of the gateway on the real flow Redis."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from gateway.flow.redis_client import FlowRedis
from tests.gateway_process import GatewayProcess
from tests.plans_file import write_plans
from tests.published_replicas import PublishedReplicas
from tests.redis_server import RedisServer
from tests.scripted_engine import MODEL, ScriptedEngine
from waitlist.directory import Directory, open_directory

# Eight times the default: a busy test machine may stand still for a while.
_FLOW_DEADLINE_S = 2.0
# Five times the default, for the same reason and the disk's.
_LEDGER_DEADLINE_S = 10.0


@pytest.fixture
async def connect(flow_server: RedisServer) -> AsyncIterator[Callable[..., FlowRedis]]:
    """Makes as many clients as a test needs: each stands for one worker."""
    async with AsyncExitStack() as stack:

        def make(url: str = flow_server.url) -> FlowRedis:
            flow = FlowRedis(url, deadline_s=_FLOW_DEADLINE_S, clock=time.monotonic)
            stack.push_async_callback(flow.close)
            return flow

        yield make


@pytest.fixture
async def flow(connect: Callable[[], FlowRedis]) -> FlowRedis:
    return connect()


@pytest.fixture(scope="session")
async def engine_process() -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine() as running:
        yield running


@pytest.fixture
def engine(engine_process: ScriptedEngine) -> Iterator[ScriptedEngine]:
    """The scripted engine, without a script and without memory; later tests find it so, too."""
    engine_process.reset()
    yield engine_process
    engine_process.reset()


@pytest.fixture
def start_gateway(
    tmp_path: Path,
    ledger_server: RedisServer,
    flow_server: RedisServer,
    engine: ScriptedEngine,
) -> Callable[..., GatewayProcess]:
    """Makes a gateway with settings of its own in front of the scripted engine."""

    def make(**settings: object) -> GatewayProcess:
        usual = _settings(tmp_path, ledger_server, flow_server, engine)
        # Another name for the same engine: the gateway that tests share has a line of its own.
        usual["upstream_url"] = engine.url.replace("127.0.0.1", "localhost")
        return GatewayProcess(tmp_path, **{**usual, **settings})

    return make


@pytest.fixture(scope="session")
async def gateway_process(
    tmp_path_factory: pytest.TempPathFactory,
    ledger_process: RedisServer,
    flow_process: RedisServer,
    engine_process: ScriptedEngine,
) -> AsyncIterator[GatewayProcess]:
    for server in (ledger_process, flow_process):
        server.make_ready()  # an earlier test may have left it dead or standing still
    folder = tmp_path_factory.mktemp("gateway")
    settings = _settings(folder, ledger_process, flow_process, engine_process)
    async with GatewayProcess(folder, **settings) as running:
        yield running


@pytest.fixture
async def gateway(
    gateway_process: GatewayProcess, ledger_server: RedisServer, flow_server: RedisServer
) -> GatewayProcess:
    """The gateway that tests share. It must live through whatever they do to its Redis."""
    await gateway_process.until_ready()
    await _until_all_is_there(gateway_process)
    return gateway_process


@pytest.fixture
async def directory(
    ledger_server: RedisServer, flow_server: RedisServer
) -> AsyncIterator[Directory]:
    async with open_directory(
        ledger_server.url, flow_server.url, actor="tests", clock=time.time, deadline_s=30.0
    ) as found:
        yield found


@pytest.fixture
async def api_key(directory: Directory) -> str:
    """A key as people get it: made by redeeming a fresh code."""
    (invite,) = await directory.create_invites(1, "free")
    redemption = await directory.redeem(invite.code, "someone@example.com")
    return redemption.api_key


@pytest.fixture
async def account_id(directory: Directory, api_key: str) -> str:
    record = await directory.find_key(api_key)
    assert record is not None
    return record.account_id


@pytest.fixture
async def client(gateway: GatewayProcess, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that holds a key."""
    async with httpx.AsyncClient(
        base_url=gateway.url, headers={"authorization": f"Bearer {api_key}"}, timeout=30
    ) as made:
        yield made


async def _until_all_is_there(gateway: GatewayProcess) -> None:
    """Until it sees the servers and the engine again that an earlier test may have taken away."""
    async with (
        asyncio.timeout(60),
        httpx.AsyncClient(base_url=gateway.url, timeout=30) as client,
    ):
        while True:
            report = (await client.get("/readyz")).json()
            model = report["engine"]["models"].get(MODEL, {})
            if report["flow"] == report["ledger"] == "ok" and model.get("replicas_running") == 1:
                return
            await asyncio.sleep(0.05)


def _settings(
    folder: Path, ledger: RedisServer, flow: RedisServer, engine: ScriptedEngine
) -> dict[str, object]:
    return {
        "ledger_url": ledger.url,
        "flow_url": flow.url,
        "upstream_url": engine.url,
        "slots": 64,
        "plans_file": write_plans(folder),
        "flow_deadline_s": _FLOW_DEADLINE_S,
        "ledger_deadline_s": _LEDGER_DEADLINE_S,
    }


@pytest.fixture
async def replicas(flow_server: RedisServer) -> AsyncIterator[PublishedReplicas]:
    """None yet, as serving publishes them on the flow Redis."""
    async with PublishedReplicas(flow_server.url, MODEL) as published:
        yield published
