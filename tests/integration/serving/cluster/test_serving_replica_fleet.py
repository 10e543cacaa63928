"""A models file that changes while its models run: on real Ray Serve, without vLLM."""

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil
import pytest

from gateway.engines.capacity import REFRESH_S
from serving.flow.flow_reader import FlowReader
from tests.redis_server import RedisServer
from tests.tiny_serving import TinyServing

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(240)]

OLD = {"model": "first", "replica_slots": 4}


class Arrivals:
    """Short requests to the replicas that the records of model "a" say run, as gateways see them.

    Each opens a connection of its own.
    """

    def __init__(self, flow: RedisServer) -> None:
        self._reader = FlowReader(flow.url, model="a")
        self.ports: list[int] = []
        self.are_over = False
        self.answered = 0
        self.refused: list[str] = []

    def look(self) -> list[int]:
        running = [each for each in self._reader.look().replicas if each["state"] == "running"]
        self.ports = [urlsplit(each["url"]).port or 0 for each in running]
        return self.ports

    async def keep_looking(self) -> None:
        while not self.are_over:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(REFRESH_S)

    async def come(self) -> None:
        while not self.are_over:
            for port in self.ports:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(b"GET / HTTP/1.1\r\nhost: tiny\r\nconnection: close\r\n\r\n")
                    status = await reader.readline()
                    await reader.read()
                    writer.close()
                except OSError as error:
                    self.refused.append(str(error))
                else:
                    self.answered += status.startswith(b"HTTP/1.1 200")
                    if not status:
                        self.refused.append("cut")


@pytest.fixture(scope="module")
def serving(
    flow_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TinyServing]:
    started = TinyServing(tmp_path_factory.mktemp("tiny"), flow_process.url, {"a": OLD})
    try:
        yield started
    finally:
        started.stop()


async def test_a_model_that_is_added_and_removed_touches_no_other_and_ends_its_streams(
    serving: TinyServing,
) -> None:
    (a,) = await serving.until_replicas(("first", 4))
    serving.write({"a": OLD, "b": {"model": "second"}})
    found = await serving.until_replicas(("first", 4), ("second", 0))
    assert a in found
    (b,) = (each for each in found if each.model == "second")
    await serving.until_told("b is as the file says")
    of_a, of_b = await serving.stream(a), await serving.stream(b)
    serving.write({"a": OLD})
    await serving.until_told("b goes when it has ended what it has")
    # What is removed and written again while it drains is a model like any other.
    serving.write({"a": OLD, "b": {"model": "second", "replica_slots": 2}})
    found = await serving.until_replicas(("first", 4), ("second", 0), ("second", 2))
    assert b in found
    serving.write({"a": OLD})
    await serving.until_told("b goes when it has ended what it has", times=2)
    assert not of_a.done() and not of_b.done()
    serving.let_go()
    assert (await of_b).endswith("whole\n\r\n0\r\n\r\n")
    assert (await of_a).endswith("whole\n\r\n0\r\n\r\n")
    await serving.until_told("b is gone")
    assert await serving.until_replicas(("first", 4)) == [a]
    assert not [each for each in found if each.model == "second" and psutil.pid_exists(each.pid)]


async def test_a_model_that_changes_is_served_anew_before_the_old_one_goes(
    serving: TinyServing,
) -> None:
    serving.let_go(False)
    (before,) = await serving.until_replicas(("first", 4))
    stream = await serving.stream(before)
    serving.write({"a": {**OLD, "replica_slots": 5}})
    await serving.until_serves("first", 5)
    assert before in await serving.until_replicas(("first", 4), ("first", 5)), "it streams"
    serving.let_go()
    assert (await stream).endswith("whole\n\r\n0\r\n\r\n")
    await serving.until_told("a is as the file says")
    await serving.until_replicas(("first", 5))
    serving.write({"a": OLD})
    await serving.until_told("a is as the file says", times=2)
    await serving.until_replicas(("first", 4))


async def test_another_number_of_replicas_leaves_those_alone_that_run(
    serving: TinyServing,
) -> None:
    (before,) = await serving.until_replicas(("first", 4))
    serving.write({"a": {**OLD, "replicas": 2}})
    await serving.until_told("a is as the file says", times=3)
    both = await serving.until_replicas(("first", 4), ("first", 4))
    assert before in both
    serving.write({"a": OLD})
    (left,) = await serving.until_replicas(("first", 4))
    assert left in both


async def test_a_replica_that_is_scaled_away_refuses_nobody_who_has_not_heard_of_it(
    serving: TinyServing, flow_process: RedisServer
) -> None:
    serving.write({"a": {**OLD, "replicas": 2}})
    await serving.until_replicas(("first", 4), ("first", 4))
    arrivals = Arrivals(flow_process)
    while len(await asyncio.to_thread(arrivals.look)) < 2:
        await asyncio.sleep(0.1)
    coming = [asyncio.create_task(each()) for each in (arrivals.keep_looking, arrivals.come)]
    serving.write({"a": OLD})
    await serving.until_replicas(("first", 4))
    while len(arrivals.ports) > 1:
        await asyncio.sleep(0.1)
    arrivals.are_over = True
    await asyncio.gather(*coming)
    assert arrivals.answered
    assert arrivals.refused == []


async def test_what_cannot_start_leaves_what_runs_as_it_was(serving: TinyServing) -> None:
    before = await serving.until_replicas(("first", 4))
    serving.write({"a": {**OLD, "model": "broken"}, "b": {"model": "broken"}})
    await serving.until_told("a stays as it was: The engine could not load")
    await serving.until_told("b does not start: The engine could not load")
    assert "the tensors do not fit" in serving.output
    assert await serving.until_replicas(("first", 4)) == before


async def test_a_change_that_comes_while_the_controller_is_gone_is_made_when_it_is_back(
    serving: TinyServing,
) -> None:
    (before,) = await serving.until_replicas(("first", 4))
    serving.kill_controller()
    serving.write({"a": OLD, "c": {"model": "third"}})
    assert before in await serving.until_replicas(("first", 4), ("third", 0))
    serving.write({"a": OLD})
    await serving.until_told("c is gone")
    assert await serving.until_replicas(("first", 4)) == [before]


async def test_a_file_with_a_mistake_or_none_changes_nothing(serving: TinyServing) -> None:
    before = await serving.until_replicas(("first", 4))
    serving.models_file.write_text("a:\n  model: first\n  slots: 4\n")
    await serving.until_told("models.yaml:3: 'a': slots cannot be set for one model")
    serving.models_file.unlink()
    await serving.until_told("the models stay as they are", times=2)
    assert await serving.until_replicas(("first", 4)) == before
