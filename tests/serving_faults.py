"""Faults of a running Floodgate's replicas: who is where, what breaks, and what is told of it."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import httpx
import psutil

from gateway.engines.replica_record import Replica
from tests.gateway_callers import day_tokens
from tests.running_floodgate import MODEL, RunningFloodgate

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me a story."}]}
SHORT_TOKENS = 4
SHORT = {**CHAT, "max_tokens": SHORT_TOKENS, "ignore_eos": True}
LONG_TOKENS = 600
LONG = {
    **CHAT,
    "max_tokens": LONG_TOKENS,
    "ignore_eos": True,
    "stream": True,
    # An event may hold several tokens: only vLLM knows how many were relayed when a stream is cut.
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}
PATH = "/v1/chat/completions"
# Ten times what the next caller's wait is to be: it is measured and printed, and tested only
# against waiting for what has gone.
_NEXT_S_MAX = 20.0


class Account:
    """An account of its own, and what it is charged. `client` holds its key."""

    def __init__(self, floodgate: RunningFloodgate, client: httpx.AsyncClient, id_: str) -> None:
        self.client = client
        self._id = id_
        self._flow = FlowAt(floodgate.state["flow_url"])

    async def day_tokens(self) -> int:
        """Charged today, reservations included."""
        return await day_tokens(self._flow, self._id)

    async def until_charged(self, tokens: int) -> None:
        """Until all is settled and it is exactly so much."""
        seen = -1
        try:
            async with asyncio.timeout(30):
                while (seen := await self.day_tokens()) != tokens:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"charged {seen} tokens, not {tokens}") from None


class FlowAt(NamedTuple):
    """A flow Redis that a test does not run itself."""

    url: str


@contextlib.asynccontextmanager
async def new_account(floodgate: RunningFloodgate) -> AsyncIterator[Account]:
    """With nothing charged to it yet."""
    key = await asyncio.to_thread(floodgate.new_key)
    listed = await asyncio.to_thread(floodgate.run, "keys", "list", "--json")
    account_id = json.loads(listed.splitlines()[-1])["account_id"]
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=floodgate.url, headers=headers, timeout=400) as client:
        yield Account(floodgate, client, account_id)


async def until_running(floodgate: RunningFloodgate, count: int) -> float:
    """Seconds until so many replicas run; the record of a dead one lives on for a while."""
    began_at = time.monotonic()
    while (
        len(listening(floodgate).keys() & published(floodgate)) != count
        or len(published(floodgate)) != count
    ):
        await asyncio.sleep(0.2)
    return time.monotonic() - began_at


def published(floodgate: RunningFloodgate) -> set[int]:
    return {port_of(replica) for replica in floodgate.replicas() if replica.state == "running"}


def listening(floodgate: RunningFloodgate) -> dict[int, psutil.Process]:
    """Port -> who listens there; some processes end while they are looked at."""
    found = {}
    for process in floodgate.processes():
        with contextlib.suppress(psutil.Error):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found[connection.laddr.port] = process
    return found


def port_of(replica: Replica) -> int:
    return int(replica.url.rpartition(":")[2])


async def until_told(
    floodgate: RunningFloodgate, *, running: int, states: tuple[str, ...] = ("running",)
) -> None:
    """Until /readyz says so of the model; it keeps answering that the gateway is ready."""
    model: Mapping[str, Any] = {}
    async with httpx.AsyncClient(base_url=floodgate.url) as client:
        try:
            async with asyncio.timeout(120):
                while model.get("replicas_running") != running or model["state"] not in states:
                    answer = await client.get("/readyz")
                    assert answer.status_code == 200, answer.text
                    model = answer.json()["engine"]["models"][MODEL]
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"/readyz goes on saying {model}") from None
    while await metrics(floodgate, "floodgate_slots_capacity") != {"": model["slots"]}:
        await asyncio.sleep(0.2)


async def metrics(floodgate: RunningFloodgate, name: str, label: str = "") -> Counter[str]:
    """The samples of one metric, summed by the value of one of its labels."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(floodgate.url + "/metrics")).text
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith((name + "{", name + " ")):
            value = line.partition(f'{label}="')[2].partition('"')[0] if label else ""
            found[value] += round(float(line.rpartition(" ")[2]))
    return found


async def faults_told(floodgate: RunningFloodgate) -> Counter[str]:
    """What the gateway has counted of replicas that failed it, by kind."""
    return await metrics(floodgate, "floodgate_engine_faults_total", "kind")


async def until_idle(floodgate: RunningFloodgate) -> None:
    """No slot is held and nobody waits."""
    for name in ("floodgate_slots_held", "floodgate_queue_length"):
        while (await metrics(floodgate, name)).total():
            await asyncio.sleep(0.1)


def engine_process(replica: psutil.Process, title: str) -> psutil.Process:
    """vLLM's process below it: `EngineCore`, which schedules, or `VLLM::Worker`, which computes."""
    children = replica.children(recursive=True)
    (found,) = (child for child in children if title in " ".join(child.cmdline()))
    return found


class Stream:
    """An answer on its way, a long one by default; `begun` once its first event is there."""

    def __init__(self, client: httpx.AsyncClient, body: Mapping[str, object] = LONG) -> None:
        self._client = client
        self._body = body
        self.begun = asyncio.Event()
        self.text = asyncio.create_task(self._read())

    async def _read(self) -> str:
        lines = []
        async with self._client.stream("POST", PATH, json=self._body) as answer:
            async for line in answer.aiter_lines():
                lines.append(line)
                if line.startswith("data:"):
                    self.begun.set()
        return "\n".join(lines).rstrip()


class Ended(NamedTuple):
    """How a stream went."""

    is_whole: bool
    error_code: str
    # As the engine said last, of the prompt and what was relayed, and of the latter alone; 0 where
    # it never came to that.
    total_tokens: int
    relayed_tokens: int

    @classmethod
    def of(cls, text: str) -> "Ended":
        events = [
            json.loads(line.removeprefix("data:"))
            for line in text.splitlines()
            if line.startswith("data:") and not line.endswith("[DONE]")
        ]
        usages = [event["usage"] for event in events if event.get("usage")]
        told = usages[-1] if usages else {"total_tokens": 0, "completion_tokens": 0}
        errors = [event["error"] for event in events if "error" in event]
        return cls(
            is_whole=text.endswith("data: [DONE]"),
            error_code=errors[0]["code"] if errors else "",
            total_tokens=told["total_tokens"],
            relayed_tokens=told["completion_tokens"],
        )


def named(floodgate: RunningFloodgate, name: str) -> list[psutil.Process]:
    """Processes of Ray whose title has the name."""
    found = []
    for process in floodgate.processes():
        with contextlib.suppress(psutil.Error):
            if name in " ".join(process.cmdline()):
                found.append(process)
    return found


async def until_busy(
    floodgate: RunningFloodgate, processes: dict[int, psutil.Process]
) -> psutil.Process:
    """A replica whose engine runs something. Finding its process would take seconds by then."""
    while True:
        for replica in floodgate.replicas():
            if replica.engine.running:
                return processes[port_of(replica)]
        await asyncio.sleep(0.05)


def used_by(answer: httpx.Response) -> int:
    tokens: int = answer.json()["usage"]["total_tokens"]
    return tokens


class Fault:
    """One fault from its moment on, and what it costs. Prints that once everything is as before."""

    def __init__(self, floodgate: RunningFloodgate, name: str, *, replicas: int = 2) -> None:
        self._floodgate, self._name, self._replicas = floodgate, name, replicas
        self._at = time.monotonic()
        self._served_s = 0.0

    async def next_request(
        self, account: Account, *, comes_back: bool = False, within_s: float = _NEXT_S_MAX
    ) -> int:
        """Another caller's request, sent at once; and again, as SDKs do, where told to.

        Returns the tokens that it used.
        """
        async with asyncio.timeout(within_s):
            answer = await account.client.post(PATH, json=SHORT)
            while comes_back and answer.headers.get("x-should-retry") == "true":
                answer = await account.client.post(PATH, json=SHORT)
        assert answer.status_code == 200, answer.text
        self.served()
        return used_by(answer)

    def served(self) -> None:
        """The next caller has its answer."""
        self._served_s = time.monotonic() - self._at

    async def over(self, affected: int) -> None:
        """Waits until all replicas run."""
        await until_running(self._floodgate, self._replicas)
        await until_told(self._floodgate, running=self._replicas)
        print(
            f"\n{self._name}: {affected} requests affected, next one served after "
            f"{self._served_s:.1f} s, all replicas there after {time.monotonic() - self._at:.0f} s"
        )
