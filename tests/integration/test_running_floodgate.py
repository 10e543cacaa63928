"""What is told of a Floodgate that does not start: all that is known, since its home goes."""

import re
import socket
from pathlib import Path

import psutil
import pytest

from tests.running_floodgate import RunningFloodgate

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def test_a_start_that_fails_is_told_with_its_logs_ports_and_memory(tmp_path: Path) -> None:
    running = RunningFloodgate(tmp_path / "home", model=tmp_path / "no-model", host="127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(AssertionError) as failed, running.started():
            pass
    told = str(failed.value)
    assert "`floodgate up` ended: 1" in told
    assert "floodgate: serving ended with status 1:" in told
    for log in ("serving.log", "redis-flow.log", "redis-ledger.log"):
        assert f"== {tmp_path}/home/logs/{log}" in told
    assert "Ready to accept connections" in told
    assert f"127.0.0.1:{port} {psutil.Process().pid} " in told
    assert re.search(r"\d+ MiB of \d+ are available", told)
    assert re.search(r"== processes\n\d+ MiB \d+ \S", told)
