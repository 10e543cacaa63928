"""What `floodgate status` tells of replicas and models."""

import io
from typing import Any

import pytest
from rich.console import Console

from deploy.launcher.status import print_status
from gateway.engines.replica_record import EngineState, Replica


def printed(**parts: Any) -> str:
    status = {
        "running": True,
        "home": "/home",
        "phase": "ready",
        "url": "http://127.0.0.1:8000",
        "model": "m",
        "launcher_pid": 1,
        "started_at": "now",
        "processes": [],
        "replicas": [],
        "models": [],
        "flow_error": "",
        **parts,
    }
    text = io.StringIO()
    print_status(Console(file=text, width=200), status)
    return text.getvalue()


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
    lines = printed(replicas=[replica.model_dump(mode="json")]).splitlines()
    head, row = (line for line in lines if "replica" in line or "r1" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert head.rstrip().endswith("tokens/s ┃")
    assert cells[-5:] == ["32", "3", "1", "25%", told]


def test_a_model_that_does_not_start_is_told_with_the_engines_words() -> None:
    reasons = {"m": "", "moss": "ValueError: no memory [/weights] for the cache " + "x" * 300}
    models = [{"model": model, "start_failure": reason} for model, reason in reasons.items()]
    lines = printed(models=models).splitlines()
    assert f"moss does not start: {reasons['moss']}" in lines
    assert not any(line.startswith("m does not start") for line in lines)
