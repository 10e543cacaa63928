"""Shared by every suite.

The one running Floodgate that the contract and end-to-end suites talk to is made here, so that
both use the same.
"""

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.plans_file import write_plans
from tests.running_floodgate import RUNNING_MAX, STEP_TOKENS_MAX, RunningFloodgate

# No test asserts how long something took, and a busy machine may stand still for a while.
settings.register_profile("floodgate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("floodgate")


@pytest.fixture(scope="session")
def floodgate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFloodgate]:
    """`floodgate up` with one real vLLM replica, for the whole run.

    Eight slots over an engine that runs four requests at once, so that tests can make requests
    queue inside vLLM. The tool parser is for the tools test.
    """
    folder = tmp_path_factory.mktemp("floodgate")
    running = RunningFloodgate(
        folder,
        replica_slots=8,
        replica_slots_min=8,  # they would fall to what the engine runs
        engine_args=json.dumps(
            {"max_num_seqs": RUNNING_MAX, "max_num_batched_tokens": STEP_TOKENS_MAX}
        ),
        tool_call_parser="hermes",
        plans_file=write_plans(folder),
        kv_cache_gib=1,
        flow_deadline_s=2.0,  # this machine also runs the engine and the test
    )
    with running.started():
        yield running


@pytest.fixture(scope="session")
def api_key(floodgate: RunningFloodgate) -> str:
    return floodgate.new_key()
