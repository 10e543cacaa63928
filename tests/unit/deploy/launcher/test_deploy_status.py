"""What `floodgate status` tells of replicas."""

import io

import pytest
from rich.console import Console

from deploy.launcher.status import print_status
from gateway.engines.replica_record import EngineState, Replica


@pytest.mark.parametrize(("rate", "told"), [(123.4, "123"), (0.0, "0"), (None, "")])
def test_tokens_a_second_are_told_where_they_are_known(rate: float | None, told: str) -> None:
    replica = Replica(
        model="m",
        replica_id="r1",
        url="http://127.0.0.1:30000",
        state="running",
        slots=32,
        engine=EngineState(running=3, waiting=1, kv_use=0.25, generation_tokens_per_s=rate),
    )
    status = {
        "running": True,
        "home": "/home",
        "phase": "ready",
        "url": "http://127.0.0.1:8000",
        "model": "m",
        "launcher_pid": 1,
        "started_at": "now",
        "processes": [],
        "replicas": [replica.model_dump(mode="json")],
        "flow_error": "",
    }
    printed = io.StringIO()
    print_status(Console(file=printed, width=200), status)
    head, row = (
        line for line in printed.getvalue().splitlines() if "replica" in line or "r1" in line
    )
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert head.rstrip().endswith("tokens/s ┃")
    assert cells[-5:] == ["32", "3", "1", "25%", told]
