"""Several models in one run: each its own line, a broken one in nobody's way, one updated live."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.plans_file import write_plans
from tests.running_floodgate import MODEL, RunningFloodgate, shared_cache

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(580)]

PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Tell me a story."}]


class Versions:
    """Two versions of a model behind one name, one that vLLM cannot load, one without a folder."""

    def __init__(self, folder: Path) -> None:
        self.routes = folder / "routes.yaml"
        self.route(old=1, new=0)
        weights = Path(shared_cache()) / "models" / MODEL
        broken = folder / "broken"
        broken.mkdir()
        for file in weights.iterdir():
            if file.name != "config.json":
                os.link(file, broken / file.name)
        config = json.loads((weights / "config.json").read_text())
        (broken / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
        models = {"old": {"model": str(weights)}, "new": {"model": str(weights)}}
        self.models = folder / "models.yaml"
        unusable = {"broken": {"model": str(broken)}, "lost": {"model": str(folder / "nowhere")}}
        self.models.write_text(json.dumps({**models, **unusable}))
        self.floodgate = RunningFloodgate(
            folder / "home",
            models_file=self.models,
            routes_file=self.routes,
            kv_cache_gib=1,
            flow_deadline_s=2.0,
            replica_slots=4,
            plans_file=write_plans(folder),
        )

    def route(self, **weights: int) -> None:
        """As operators do it: a new file in place of the old."""
        written = self.routes.with_suffix(".new")
        written.write_text(json.dumps({"chat": weights}))
        written.rename(self.routes)


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
        base_url=versions.floodgate.url, headers=headers, timeout=120
    ) as made:
        yield made


async def ask(client: httpx.AsyncClient, model: str) -> httpx.Response:
    body = {"model": model, "messages": MESSAGES, "max_tokens": 8, "ignore_eos": True}
    return await client.post(PATH, json=body)


async def test_each_model_answers_and_one_that_cannot_start_stops_no_other(
    versions: Versions, client: httpx.AsyncClient
) -> None:
    for model in ("old", "new"):
        answer = await ask(client, model)
        assert (answer.status_code, answer.json()["model"]) == (200, model)
    told = " ".join(versions.floodgate.output.split())
    assert "broken does not start: The engine could not load" in told
    assert "lost does not start: There is no model folder" in told
    states = {"old": "running", "new": "running", "broken": "dead", "lost": "dead"}
    while True:  # until the last record of the one that failed has expired
        report = (await client.get("/readyz")).json()["engine"]["models"]
        if {name: found["state"] for name, found in report.items()} == states:
            break
        await asyncio.sleep(0.1)
    assert {model["model"] for model in (await client.get("/v1/queue")).json()["models"]} == {
        "old",
        "new",
        "broken",
        "lost",
    }


async def test_a_new_version_takes_over_under_load_and_nobody_notices(
    versions: Versions, client: httpx.AsyncClient
) -> None:
    """Callers ask for a name all the time, while it moves from one version to the other."""
    served: list[str] = []
    is_over = asyncio.Event()

    async def keep_asking() -> None:
        while not is_over.is_set():
            answer = await ask(client, "chat")
            assert answer.status_code == 200
            served.append(answer.json()["model"])

    callers = [asyncio.create_task(keep_asking()) for _ in range(3)]
    while len(served) < 6:
        await asyncio.sleep(0.05)
    versions.route(old=0, new=1)
    while Counter(served)["new"] < 6:
        await asyncio.sleep(0.05)
    is_over.set()
    await asyncio.gather(*callers)
    first_new = served.index("new")
    assert set(served[:first_new]) == {"old"}
    assert "old" not in served[first_new + len(callers) :], "those under way end where they began"
