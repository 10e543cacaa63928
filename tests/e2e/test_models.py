"""Several models in one run, from a file that changes while it runs, under constant load."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from gateway.engines.replica_record import Replica
from tests.plans_file import write_plans
from tests.running_floodgate import MODEL, RunningFloodgate, shared_cache

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(580)]

PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Tell me a story."}]
CALLERS = 3
# About a minute on two cores beside the other callers: far longer than the second in which a
# change of the file is seen, and the next in which Ray acts.
LONG_TOKENS = 300


class Versions:
    """Two versions of a model, one that vLLM cannot load, one without a folder."""

    def __init__(self, folder: Path) -> None:
        self.weights = str(Path(shared_cache()) / "models" / MODEL)
        self.routes = folder / "routes.yaml"
        self.models = folder / "models.yaml"
        self._replace(self.routes, {"chat": {"old": 1}})
        self.broken = folder / "broken"
        self.broken.mkdir()
        for file in Path(self.weights).iterdir():
            if file.name != "config.json":
                os.link(file, self.broken / file.name)
        config = json.loads((Path(self.weights) / "config.json").read_text())
        (self.broken / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
        self.serve(old=self.weights, broken=str(self.broken), lost=str(folder / "nowhere"))
        self.floodgate = RunningFloodgate(
            folder / "home",
            models_file=self.models,
            routes_file=self.routes,
            kv_cache_gib=1,
            flow_deadline_s=2.0,
            replica_slots=8,
            plans_file=write_plans(folder),
        )

    def serve(self, **folders: str) -> None:
        """These models and no others, from now on."""
        self._replace(self.models, {name: {"model": folder} for name, folder in folders.items()})

    def route(self, **weights: int) -> None:
        """Who asks for `chat` gets these."""
        self._replace(self.routes, {"chat": weights})

    def _replace(self, path: Path, content: object) -> None:
        """As operators do it: a new file in place of the old."""
        written = path.with_suffix(".new")
        written.write_text(json.dumps(content, indent=1))
        written.rename(path)

    async def until_told(self, words: str) -> str:
        """The line of `floodgate up` that has these words."""
        while True:
            output = await asyncio.to_thread(lambda: self.floodgate.output)
            if found := [line for line in output.splitlines() if words in line]:
                return found[-1]
            await asyncio.sleep(0.2)

    async def until_states(self, client: httpx.AsyncClient, **states: str) -> None:
        """Until the gateway says so of these models."""
        while True:
            report = (await client.get("/readyz")).json()["engine"]["models"]
            if states.items() <= {name: found["state"] for name, found in report.items()}.items():
                return
            await asyncio.sleep(0.1)

    def replica(self, model: str) -> Replica:
        (found,) = self.floodgate.replicas(model)
        return found

    def processes_of(self, replica: Replica) -> list[psutil.Process]:
        """The one that listens at the replica's port, and all that it has started."""
        port = urlsplit(replica.url).port
        for process in self.floodgate.processes():
            if any(
                each.status == psutil.CONN_LISTEN and each.laddr.port == port
                for each in process.net_connections("tcp")
            ):
                return [process, *process.children(recursive=True)]
        raise AssertionError(f"nobody listens at {replica.url}")


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    found = Versions(tmp_path_factory.mktemp("models"))
    try:
        found.floodgate.start()
        yield found
    finally:
        found.floodgate.stop()


@pytest.fixture
async def client(versions: Versions) -> AsyncIterator[httpx.AsyncClient]:
    key = await asyncio.to_thread(versions.floodgate.new_key)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(
        base_url=versions.floodgate.url, headers=headers, timeout=240
    ) as made:
        yield made


async def stream(client: httpx.AsyncClient, model: str, tokens: int) -> str:
    """The model that streamed a whole answer; fails where it was refused or cut."""
    body = {"model": model, "messages": MESSAGES, "max_tokens": tokens, "ignore_eos": True}
    async with client.stream("POST", PATH, json={**body, "stream": True}) as answer:
        text = (await answer.aread()).decode()
    assert answer.status_code == 200, text
    assert text.rstrip().endswith("data: [DONE]"), text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert not [event for event in events if "error" in event], text
    finished = [each["finish_reason"] for event in events for each in event["choices"]]
    assert finished[-1] == "length", text
    served: str = events[0]["model"]
    return served


class Load:
    """Callers who each stream one answer after the other, for as long as the block lasts."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.served: list[str] = []
        self._is_over = False

    async def __aenter__(self) -> Self:
        self._callers = [asyncio.create_task(self._keep_asking()) for _ in range(CALLERS)]
        return self

    async def _keep_asking(self) -> None:
        while not self._is_over:
            self.served.append(await stream(self._client, "chat", 12))

    async def until_served(self, more: int) -> None:
        """So many more whole answers; fails with the first caller that fails."""
        enough = len(self.served) + more
        while len(self.served) < enough:
            for caller in self._callers:
                if caller.done():
                    caller.result()
            await asyncio.sleep(0.05)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """All end what they have begun, and none of it may have failed."""
        self._is_over = True
        if kind is not None:
            for caller in self._callers:
                caller.cancel()
        await asyncio.gather(*self._callers, return_exceptions=kind is not None)


async def test_a_model_that_cannot_start_stops_no_other(
    versions: Versions, client: httpx.AsyncClient
) -> None:
    assert await stream(client, "old", 8) == "old"
    told = " ".join(versions.floodgate.output.split())
    assert "broken does not start: The engine could not load" in told
    assert "lost does not start: There is no model folder" in told
    # until the last record of the one that failed has expired
    await versions.until_states(client, old="running", broken="dead", lost="dead")


async def test_a_file_with_a_mistake_changes_nothing_and_is_told_with_its_line(
    versions: Versions, client: httpx.AsyncClient
) -> None:
    before = versions.replica("old").replica_id
    versions.models.write_text("old:\n  model: /models/old\n  replicas: many\n")
    line = await versions.until_told("the models stay as they are")
    assert f"{versions.models}:3: 'old': replicas: " in line
    assert await stream(client, "old", 8) == "old"
    assert versions.replica("old").replica_id == before


async def test_a_new_version_takes_over_under_load_and_nobody_notices(
    versions: Versions, client: httpx.AsyncClient
) -> None:
    old = versions.replica("old")
    old_processes = versions.processes_of(old)
    async with Load(client) as load:
        await load.until_served(2 * CALLERS)
        versions.serve(old=versions.weights, new=versions.weights)
        await versions.until_states(client, old="running", new="running")
        new = versions.replica("new")
        await load.until_served(2 * CALLERS)
        assert set(load.served) == {"old"}, "nobody has said that anybody is to get the new one"
        assert versions.replica("old").replica_id == old.replica_id, "it was not started anew"

        versions.route(old=0, new=1)
        while "new" not in load.served:
            await load.until_served(1)
        await load.until_served(2 * CALLERS)
        moved = load.served.index("new")
        assert "old" not in load.served[moved + CALLERS :], "those under way end where they began"

        longest = asyncio.create_task(stream(client, "old", LONG_TOKENS))
        while versions.replica("old").engine.running == 0:
            await asyncio.sleep(0.1)
        versions.serve(new=versions.weights)
        await versions.until_told("old goes when it has ended what it has")
        assert not longest.done(), "it was to outlast the change"
        assert await longest == "old"
        await versions.until_told("old is gone")
        while any(is_alive(process) for process in old_processes):
            await asyncio.sleep(0.1)
        await load.until_served(2 * CALLERS)
    assert load.served[-1] == "new"
    assert versions.replica("new").replica_id == new.replica_id
    await versions.until_states(client, old="dead", new="running")
    print(f"{len(load.served)} streams, none refused and none cut")


def is_alive(process: psutil.Process) -> bool:
    """Whether it still holds memory: what nobody has waited for yet does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
