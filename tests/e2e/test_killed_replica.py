"""A replica is killed under the running Floodgate that other tests use too, and comes back.

There is but one, so whoever comes next waits in line for another. More faults, with two replicas,
are in test_faults.py.
"""

import asyncio

import pytest

from tests.gateway_callers import until_waiting
from tests.running_floodgate import RunningFloodgate
from tests.serving_faults import (
    SHORT_TOKENS,
    Ended,
    Fault,
    Stream,
    faults_told,
    listening,
    metrics,
    new_account,
    port_of,
    until_idle,
    until_told,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# Longer than a start of vLLM on a busy machine.
START_S_MAX = 250
SETTLED = "floodgate_tokens_settled_total"


async def test_the_only_replica_is_killed_in_mid_stream_and_the_next_one_serves_the_line(
    floodgate: RunningFloodgate,
) -> None:
    await floodgate.until_engine(running=0)
    await until_idle(floodgate)
    faults, settled = await faults_told(floodgate), await metrics(floodgate, SETTLED, "kind")
    async with new_account(floodgate) as account:
        streams = [Stream(account.client) for _ in range(2)]
        for stream in streams:
            await stream.begun.wait()
        listening(floodgate)[port_of(floodgate.replicas()[0])].kill()
        fault = Fault(floodgate, "the only replica killed in mid-stream", replicas=1)
        asked = asyncio.create_task(fault.next_request(account, within_s=START_S_MAX))
        ended = [Ended.of(await stream.text) for stream in streams]
        assert [each.error_code for each in ended] == ["engine_gone"] * 2
        await until_told(floodgate, running=0, states=("starting",))
        await until_waiting(account.client, 1)
        await asked
        await fault.over(2)
        await until_idle(floodgate)
    assert (await faults_told(floodgate) - faults)["broken"] == 2
    relayed = sum(each.relayed_tokens for each in ended)
    now = await metrics(floodgate, SETTLED, "kind")
    assert now["output"] - settled["output"] == relayed + SHORT_TOKENS
