"""What fails in serving, with real processes and a real vLLM: who is affected, and for how long.

Two replicas, so that the other one serves on. Each test leaves both running.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import psutil
import pytest

from gateway.engines.replica_record import Replica
from tests.plans_file import write_plans
from tests.running_floodgate import MODEL, RunningFloodgate

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.timeout(580),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two replicas share one core"),
]

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me a story."}]}
SHORT = {**CHAT, "max_tokens": 4}
LONG = {**CHAT, "max_tokens": 600, "ignore_eos": True, "stream": True}
# Some seconds of prefill on one core.
LONG_PROMPT = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "word " * 3000}],
    "max_tokens": 4,
}
PATH = "/v1/chat/completions"
# Longer than the longest step on one busy core, and than a start beside it holds one up.
HANG_S = 30


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFloodgate]:
    folder = tmp_path_factory.mktemp("faults")
    running = RunningFloodgate(
        folder,
        replicas=2,
        replica_slots=4,
        kv_cache_gib=1,
        engine_hang_s_max=HANG_S,
        # Two engines keep two cores busy: Redis is not gone when it answers late.
        flow_deadline_s=2.0,
        plans_file=write_plans(folder),
    )
    with running.started():
        yield running


@pytest.fixture
async def client(pair: RunningFloodgate) -> AsyncIterator[httpx.AsyncClient]:
    """With both replicas there, and nothing left running at the end."""
    await until_running(pair, 2)
    key = await asyncio.to_thread(pair.new_key)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=pair.url, headers=headers, timeout=400) as made:
        yield made
    await until_running(pair, 2)
    while await metric(pair, "floodgate_slots_held"):
        await asyncio.sleep(0.1)


async def until_running(pair: RunningFloodgate, count: int) -> float:
    """Seconds until so many replicas run; the record of a dead one lives on for a while."""
    began_at = time.monotonic()
    while len(listening(pair).keys() & published(pair)) != count or len(published(pair)) != count:
        await asyncio.sleep(0.2)
    return time.monotonic() - began_at


def published(pair: RunningFloodgate) -> set[int]:
    return {port_of(replica) for replica in pair.replicas() if replica.state == "running"}


def listening(pair: RunningFloodgate) -> dict[int, psutil.Process]:
    """Port -> who listens there; some processes end while they are looked at."""
    found = {}
    for process in pair.processes():
        with contextlib.suppress(psutil.Error):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found[connection.laddr.port] = process
    return found


def port_of(replica: Replica) -> int:
    return int(replica.url.rpartition(":")[2])


async def metric(pair: RunningFloodgate, name: str) -> float:
    async with httpx.AsyncClient() as client:
        text = (await client.get(pair.url + "/metrics")).text
    return sum(
        float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)
    )


def engine_of(replica: psutil.Process) -> psutil.Process:
    """vLLM's engine below it."""
    children = replica.children(recursive=True)
    (found,) = (child for child in children if "EngineCore" in " ".join(child.cmdline()))
    return found


class Stream:
    """A long answer on its way; `begun` once the first event is there."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.begun = asyncio.Event()
        self.text = asyncio.create_task(self._read())

    async def _read(self) -> str:
        lines = []
        async with self._client.stream("POST", PATH, json=LONG) as answer:
            async for line in answer.aiter_lines():
                lines.append(line)
                self.begun.set()
        return "\n".join(lines)


def named(pair: RunningFloodgate, name: str) -> list[psutil.Process]:
    """Processes of Ray whose title has the name."""
    found = []
    for process in pair.processes():
        with contextlib.suppress(psutil.Error):
            if name in " ".join(process.cmdline()):
                found.append(process)
    return found


async def until_busy(
    pair: RunningFloodgate, processes: dict[int, psutil.Process]
) -> psutil.Process:
    """A replica whose engine runs something. Finding its process would take seconds by then."""
    while True:
        for replica in pair.replicas():
            if replica.engine.running:
                return processes[port_of(replica)]
        await asyncio.sleep(0.05)


class Fault:
    """One fault from its moment on, and what it costs. Prints that once everything is as before."""

    def __init__(self, pair: RunningFloodgate, name: str) -> None:
        self._pair, self._name = pair, name
        self._at = time.monotonic()
        self._served_s = 0.0

    async def next_request(self, client: httpx.AsyncClient, *, comes_back: bool = False) -> None:
        """Another caller's request, sent at once; and again, as SDKs do, where told to."""
        answer = await client.post(PATH, json=SHORT)
        while comes_back and answer.headers.get("x-should-retry") == "true":
            answer = await client.post(PATH, json=SHORT)
        assert answer.status_code == 200, answer.text
        self._served_s = time.monotonic() - self._at

    async def over(self, affected: int) -> None:
        """Waits until both replicas run."""
        await until_running(self._pair, 2)
        print(
            f"\n{self._name}: {affected} requests affected, next one served after "
            f"{self._served_s:.1f} s, both replicas there after {time.monotonic() - self._at:.0f} s"
        )


async def test_a_replica_that_is_killed_in_mid_stream(
    pair: RunningFloodgate, client: httpx.AsyncClient
) -> None:
    """Its streams end in words; the next request is served by the other replica."""
    processes = listening(pair)
    streams = [Stream(client) for _ in range(4)]
    for stream in streams:
        await stream.begun.wait()
    (await until_busy(pair, processes)).kill()
    fault = Fault(pair, "replica killed in mid-stream")
    await fault.next_request(client)
    texts = [(await stream.text).rstrip() for stream in streams]
    cut = [text for text in texts if not text.endswith("data: [DONE]")]
    assert 0 < len(cut) < 4, "the other replica's streams run on"
    assert all('"code":"engine_gone"' in text.replace(" ", "") for text in cut), cut
    await fault.over(len(cut))


async def test_a_replica_that_is_killed_during_a_prefill(
    pair: RunningFloodgate, client: httpx.AsyncClient
) -> None:
    """Nothing of an answer had come: the request is answered by the other one."""
    processes = listening(pair)
    asked = asyncio.create_task(client.post(PATH, json={**LONG_PROMPT, "stream": True}))
    (await until_busy(pair, processes)).kill()
    fault = Fault(pair, "replica killed during a prefill")
    await fault.next_request(client)
    answer = await asked
    assert answer.status_code == 200
    assert answer.text.rstrip().endswith("data: [DONE]"), answer.text[-500:]
    await fault.over(0)


async def test_an_engine_that_the_kernel_kills(
    pair: RunningFloodgate, client: httpx.AsyncClient
) -> None:
    """As the kernel does where memory runs out: vLLM's own process goes, its server stays."""
    processes = listening(pair)
    asked = asyncio.create_task(client.post(PATH, json=LONG_PROMPT))
    engine_of(await until_busy(pair, processes)).kill()
    fault = Fault(pair, "engine killed by the kernel")
    await fault.next_request(client)
    assert (await asked).status_code == 200
    await fault.over(0)


async def test_an_engine_that_hangs(pair: RunningFloodgate, client: httpx.AsyncClient) -> None:
    """Stopped: Ray's health check is still answered, and no token comes. We end it."""
    processes = listening(pair)
    asked = asyncio.create_task(client.post(PATH, json=LONG_PROMPT))
    engine = engine_of(await until_busy(pair, processes))
    engine.send_signal(signal.SIGSTOP)
    fault = Fault(pair, f"engine stopped, hangs noticed after {HANG_S} s")
    await fault.next_request(client)
    assert (await asked).status_code == 200, "answered by the other one, with one charge"
    assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE
    await fault.over(0)


async def test_a_replica_process_that_hangs(
    pair: RunningFloodgate, client: httpx.AsyncClient
) -> None:
    """Stopped as a whole, it cannot act by itself: it falls silent, and is replaced."""
    processes = listening(pair)
    asked = asyncio.create_task(client.post(PATH, json=LONG_PROMPT))
    replica = await until_busy(pair, processes)
    replica.send_signal(signal.SIGSTOP)
    fault = Fault(pair, "replica process stopped")
    await fault.next_request(client)
    assert (await asked).status_code == 200
    while replica.is_running() and replica.status() != psutil.STATUS_ZOMBIE:
        await asyncio.sleep(0.1)
    await fault.over(0)


@pytest.mark.parametrize("name", ["ServeController", "ProxyActor"])
async def test_rays_controller_and_proxy_are_not_in_the_way(
    pair: RunningFloodgate, client: httpx.AsyncClient, name: str
) -> None:
    (found,) = named(pair, name)
    streams = [Stream(client) for _ in range(2)]
    for stream in streams:
        await stream.begun.wait()
    found.kill()
    fault = Fault(pair, f"{name} killed")
    await fault.next_request(client)
    texts = [(await stream.text).rstrip() for stream in streams]
    assert all(text.endswith("data: [DONE]") for text in texts)
    while not [process for process in named(pair, name) if process.pid != found.pid]:
        await asyncio.sleep(0.1)
    await fault.over(0)


async def test_a_replica_is_replaced_also_after_the_controller_was(
    pair: RunningFloodgate, client: httpx.AsyncClient
) -> None:
    listening(pair)[port_of(pair.replicas()[0])].kill()
    fault = Fault(pair, "replica killed behind a new controller")
    await fault.next_request(client)
    await fault.over(0)


async def test_rays_head_is_restarted_as_a_whole(
    pair: RunningFloodgate, client: httpx.AsyncClient
) -> None:
    """Ray's state is lost with it, so all of serving starts anew; callers wait in line."""
    (head,) = (p for p in pair.processes() if p.name() == "gcs_server")
    head.kill()
    fault = Fault(pair, "Ray's head killed")
    # Replicas serve on until serving has noticed that Ray is lost, and ends.
    while len(pair.replicas()) == 2:
        await asyncio.sleep(0.1)
    # Until both records have expired a request finds two replicas that refuse it, and is told to
    # come back: it is tried on two, not on all. Then it waits in line.
    await fault.next_request(client, comes_back=True)
    await fault.over(0)
