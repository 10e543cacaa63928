"""A model whose wake fails is told of, and woken again, by real Ray Serve."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.redis_server import RedisServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: Ray's sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="fg-", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture
def sleeping_model(folder: Path, flow_server: RedisServer) -> Iterator[None]:
    terms = {
        "MODEL": "m",
        "MODEL_NAME": "m",
        "REPLICAS": 0,
        "REPLICAS_MIN": 0,
        "REPLICAS_MAX": 1,
        "FLOW_URL": flow_server.url,
        "ENGINE_SECRET": "x" * 32,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOODGATE_")}
    command = [sys.executable, "-m", "tests.failing_wake", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**kept, **{f"FLOODGATE_{name}": str(value) for name, value in terms.items()}},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        for line in process.stdout:
            if line == b"up\n":
                break
        else:
            pytest.fail((folder / "log").read_text())
        yield
        process.stdin.close()
        process.stdout.read()


def until(condition: Callable[[], Any]) -> Any:
    while not (found := condition()):
        time.sleep(0.1)
    return found


def test_a_model_whose_first_wake_fails_says_why_and_is_woken_again(
    sleeping_model: None, folder: Path, flow: "Redis"
) -> None:
    def told() -> dict[str, Any]:
        # Somebody waits all the time.
        demand = {"waiting": 1, "oldest_wait_s": 1, "tokens_owed": 9, "slots_used": 0}
        flow.set("fg:demand:{m}", json.dumps({"version": 1, **demand}))
        found: dict[str, Any] = json.loads(flow.get("fg:model:{m}") or "{}")
        return found

    until(lambda: told().get("start_failure") == "RuntimeError: no memory for the engine")
    assert told()["replicas_wanted"] == 1, "gateways go on to let callers wait"
    until(lambda: told() and len((folder / "starts").read_text().splitlines()) == 2)
    until(lambda: told().get("start_failure") == "")
    assert told()["replicas_wanted"] == 1
