"""What fails in serving, with real processes and a real vLLM: who is affected, and for how long.

Two replicas, so that the other one serves on. Each test leaves both running.
"""

import asyncio
import itertools
import os
import resource
import signal
from collections.abc import AsyncIterator, Iterator

import httpx
import psutil
import pytest

from tests.gateway_callers import until_waiting
from tests.plans_file import write_plans
from tests.running_floodgate import RunningFloodgate
from tests.serving_faults import (
    PATH,
    SHORT,
    Account,
    Ended,
    Fault,
    Stream,
    engine_process,
    faults_told,
    listening,
    metrics,
    named,
    new_account,
    port_of,
    until_busy,
    until_idle,
    until_running,
    until_told,
    used_by,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.timeout(580),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two replicas share one core"),
]


def long_prompt(words: int, beginning: str = "") -> dict[str, object]:
    """Those that begin alike go to one replica."""
    return {**SHORT, "messages": [{"role": "user", "content": beginning + " word" * words}]}


# Some seconds of prefill on one core.
LONG_PROMPT = long_prompt(3000)
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
# Longer than the longest step on one busy core, and than a start beside it holds one up.
HANG_S = 30
SLOTS = 4
# Until Ray's head and all behind it has been started anew: it took 106 s.
ALL_ANEW_S_MAX = 500


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFloodgate]:
    folder = tmp_path_factory.mktemp("faults")
    running = RunningFloodgate(
        folder,
        replicas=2,
        replica_slots=SLOTS,
        kv_cache_gib=1,
        engine_hang_s_max=HANG_S,
        # Two engines keep two cores busy: Redis is not gone when it answers late.
        flow_deadline_s=2.0,
        plans_file=write_plans(folder, tokens_per_day=10_000_000),
    )
    with running.started():
        yield running


@pytest.fixture
async def account(pair: RunningFloodgate) -> AsyncIterator[Account]:
    """With both replicas there, and nothing left running at the end."""
    await until_running(pair, 2)
    async with new_account(pair) as made:
        yield made
    await until_running(pair, 2)
    await until_idle(pair)


async def test_a_replica_that_is_killed_in_mid_stream(
    pair: RunningFloodgate, account: Account
) -> None:
    """Its streams end in words; the next request is served by the other replica."""
    processes, faults = listening(pair), await faults_told(pair)
    streams = [Stream(account.client) for _ in range(4)]
    for stream in streams:
        await stream.begun.wait()
    (await until_busy(pair, processes)).kill()
    fault = Fault(pair, "replica killed in mid-stream")
    used = await fault.next_request(account)
    await until_told(pair, running=1)
    ended = [Ended.of(await stream.text) for stream in streams]
    whole, cut = [e for e in ended if e.is_whole], [e for e in ended if not e.is_whole]
    assert whole, "the other replica's streams run on"
    assert cut
    assert {each.error_code for each in cut} == {"engine_gone"}
    assert (await faults_told(pair) - faults)["broken"] == len(cut)
    await account.until_charged(used + sum(each.total_tokens for each in ended))
    await fault.over(len(cut))


async def test_a_replica_that_is_killed_while_callers_wait_in_line(
    pair: RunningFloodgate, account: Account
) -> None:
    """Who had not begun is served, by the other one or by the next."""
    processes = listening(pair)
    streams = [Stream(account.client) for _ in range(2 * SLOTS)]
    for stream in streams:
        await stream.begun.wait()
    waiting = [asyncio.create_task(account.client.post(PATH, json=SHORT)) for _ in range(4)]
    await until_waiting(account.client, 4)
    (await until_busy(pair, processes)).kill()
    fault = Fault(pair, "replica killed while callers waited in line")
    await until_told(pair, running=1)
    answers = await asyncio.gather(*waiting)
    fault.served()
    assert [answer.status_code for answer in answers] == [200] * 4
    ended = [Ended.of(await stream.text) for stream in streams]
    cut = [each for each in ended if not each.is_whole]
    assert {each.error_code for each in cut} == {"engine_gone"}
    assert len(cut) <= SLOTS
    await fault.over(len(cut))


async def retried(
    pair: RunningFloodgate, account: Account, fault: Fault, asked: "asyncio.Task[httpx.Response]"
) -> None:
    """The request whose replica failed is answered by the other one, with one charge for it.

    Meanwhile the next one is served, and one replica is said to run.
    """
    used = await fault.next_request(account)
    await until_told(pair, running=1)
    answer = await asked
    assert answer.status_code == 200, answer.text
    await account.until_charged(used + used_by(answer))
    await fault.over(0)


async def test_a_replica_that_is_killed_during_a_prefill(
    pair: RunningFloodgate, account: Account
) -> None:
    processes, faults = listening(pair), await faults_told(pair)
    asked = asyncio.create_task(account.client.post(PATH, json=LONG_PROMPT))
    (await until_busy(pair, processes)).kill()
    await retried(pair, account, Fault(pair, "replica killed during a prefill"), asked)
    assert (await faults_told(pair) - faults).total() >= 1


async def test_an_engine_that_is_killed(pair: RunningFloodgate, account: Account) -> None:
    """vLLM's own process goes, its server stays."""
    processes, faults = listening(pair), await faults_told(pair)
    asked = asyncio.create_task(account.client.post(PATH, json=LONG_PROMPT))
    engine_process(await until_busy(pair, processes), "EngineCore").kill()
    await retried(pair, account, Fault(pair, "engine killed"), asked)
    assert (await faults_told(pair) - faults).total() >= 1


async def test_an_engine_that_is_killed_during_the_prefill_of_a_stream(
    pair: RunningFloodgate, account: Account
) -> None:
    """Its server tells the stream of it in an event, under status 200: another one answers."""
    processes, faults = listening(pair), await faults_told(pair)
    stream = Stream(account.client, {**LONG_PROMPT, **STREAMED})
    engine_process(await until_busy(pair, processes), "EngineCore").kill()
    fault = Fault(pair, "engine killed during the prefill of a stream")
    used = await fault.next_request(account)
    await until_told(pair, running=1)
    ended = Ended.of(await stream.text)
    assert (ended.is_whole, ended.error_code) == (True, "")
    # Its own, and that of the next request where the death is not known when it comes.
    assert (await faults_told(pair) - faults)["status"] in (1, 2)
    await account.until_charged(used + ended.total_tokens)
    await fault.over(0)


async def test_an_engine_that_runs_out_of_memory(pair: RunningFloodgate, account: Account) -> None:
    """Really: the process that computes is given no page more, until an allocation fails."""
    faults = await faults_told(pair)
    replica = listening(pair)[port_of(pair.replicas()[0])]
    worker = engine_process(replica, "VLLM::Worker")
    has_now = worker.memory_info().vms
    worker.rlimit(resource.RLIMIT_AS, (has_now, has_now))
    fault = Fault(pair, "engine out of memory")
    told = asyncio.create_task(until_told(pair, running=1))
    used = 0
    for words in itertools.cycle(range(300, 3_000, 137)):  # what it has freed is used first
        both = (long_prompt(words, beginning=f"{words} {side}") for side in ("left", "right"))
        answers = await asyncio.gather(*(account.client.post(PATH, json=body) for body in both))
        assert [answer.status_code for answer in answers] == [200] * 2
        used += sum(map(used_by, answers))
        if has_ended(worker):
            break
    used += await fault.next_request(account)
    await told
    assert (await faults_told(pair) - faults).total() >= 1
    await account.until_charged(used)
    log = (pair.home / "logs" / "serving.log").read_text(errors="replace")
    assert "Worker failed with error" in log  # mostly oneDNN's "could not create a primitive"
    await fault.over(0)


async def test_an_engine_that_hangs(pair: RunningFloodgate, account: Account) -> None:
    """Stopped: Ray's health check is still answered, and no token comes. We end it."""
    processes = listening(pair)
    asked = asyncio.create_task(account.client.post(PATH, json=LONG_PROMPT))
    engine = engine_process(await until_busy(pair, processes), "EngineCore")
    engine.send_signal(signal.SIGSTOP)
    await retried(
        pair, account, Fault(pair, f"engine stopped, hangs noticed after {HANG_S} s"), asked
    )
    assert has_ended(engine)


async def test_a_replica_process_that_hangs(pair: RunningFloodgate, account: Account) -> None:
    """Stopped as a whole, it cannot act by itself: it falls silent, and is replaced."""
    processes = listening(pair)
    asked = asyncio.create_task(account.client.post(PATH, json=LONG_PROMPT))
    replica = await until_busy(pair, processes)
    replica.send_signal(signal.SIGSTOP)
    await retried(pair, account, Fault(pair, "replica process stopped"), asked)
    assert has_ended(replica)


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("name", ["ServeController", "ProxyActor"])
async def test_rays_controller_and_proxy_are_not_in_the_way(
    pair: RunningFloodgate, account: Account, name: str
) -> None:
    (found,) = named(pair, name)
    faults = await faults_told(pair)
    streams = [Stream(account.client) for _ in range(2)]
    for stream in streams:
        await stream.begun.wait()
    found.kill()
    fault = Fault(pair, f"{name} killed")
    used = await fault.next_request(account)
    await until_told(pair, running=2)
    ended = [Ended.of(await stream.text) for stream in streams]
    assert all(each.is_whole for each in ended)
    while not [process for process in named(pair, name) if process.pid != found.pid]:
        await asyncio.sleep(0.1)
    assert await faults_told(pair) == faults
    await account.until_charged(used + sum(each.total_tokens for each in ended))
    await fault.over(0)


async def test_a_replica_is_replaced_also_after_the_controller_was(
    pair: RunningFloodgate, account: Account
) -> None:
    listening(pair)[port_of(pair.replicas()[0])].kill()
    fault = Fault(pair, "replica killed behind a new controller")
    await account.until_charged(await fault.next_request(account))
    await until_told(pair, running=1)
    await fault.over(0)


async def test_rays_head_is_restarted_as_a_whole(pair: RunningFloodgate, account: Account) -> None:
    """Ray's state is lost with it, so all of serving starts anew; callers wait in line."""
    (head,) = (p for p in pair.processes() if p.name() == "gcs_server")
    admitted = (await metrics(pair, "floodgate_admitted_total")).total()
    head.kill()
    fault = Fault(pair, "Ray's head killed")
    # Replicas serve on until serving has noticed that Ray is lost, and ends.
    while len(pair.replicas()) == 2:
        await asyncio.sleep(0.1)
    # It waits in line, and may be told to come back: all is started anew for longer than one waits.
    asked = asyncio.create_task(
        fault.next_request(account, comes_back=True, within_s=ALL_ANEW_S_MAX)
    )
    await until_told(pair, running=0, states=("starting", "dead"))
    await account.until_charged(await asked)
    assert (await metrics(pair, "floodgate_admitted_total")).total() > admitted
    await fault.over(0)
