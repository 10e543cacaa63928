"""`floodgate up` and `down` from start to end, and after the worst that can happen to them."""

import json
import socket
import subprocess
import time
from pathlib import Path

import httpx
import psutil
import pytest

from deploy import marked_processes
from tests.gateway_process import free_port
from tests.running_floodgate import RunningFloodgate
from tests.running_floodgate import floodgate as floodgate_command

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def marked(mark: str) -> list[psutil.Process]:
    return marked_processes.find(marked_processes.of_run(mark))


def ports_of(processes: list[psutil.Process]) -> set[int]:
    ports = set()
    for process in processes:
        for connection in process.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                ports.add(connection.laddr.port)
    return ports


def listening_ports() -> set[int]:
    return {
        connection.laddr.port
        for connection in psutil.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def until_gone(mark: str) -> None:
    while marked(mark):
        time.sleep(0.1)  # the test's own time limit ends it


def run_as_pasted(running: RunningFloodgate, block: str) -> str:
    """What a printed block prints in the shell and folder that `floodgate up` was started from."""
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", block],
        cwd=running.launcher.cwd(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_up_prints_what_a_new_user_needs(floodgate: RunningFloodgate) -> None:
    """Both printed blocks chat as they stand. Their codes can be redeemed once: only here."""
    printed = floodgate.output.partition("Redeem it and chat, with curl:")[2]
    curl, _, rest = printed.partition("The same with the OpenAI Python SDK and a code of its own:")
    python = rest.partition("More codes: ")[0]
    assert f":{floodgate.port}/invites/redeem" in curl
    events = [
        line.removeprefix("data: ")
        for line in run_as_pasted(floodgate, curl).splitlines()
        if line.startswith("data: ")
    ]
    assert events.pop() == "[DONE]"
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices).strip()
    key, _, answer = run_as_pasted(floodgate, python).partition("\n")
    assert key.startswith("Your key: ")
    assert answer.strip()


def test_status_and_a_second_up(floodgate: RunningFloodgate) -> None:
    status = json.loads(floodgate.run("status", "--json"))
    assert "running" in json.dumps(status)
    second = subprocess.run(
        [floodgate_command(), "up"],
        env=floodgate.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode != 0
    assert "floodgate down" in second.stdout + second.stderr


def test_keys_are_listed_and_revoked_by_command(floodgate: RunningFloodgate) -> None:
    key = floodgate.new_key()
    listed = floodgate.run("keys", "list", "--json")
    assert key not in listed
    newest = json.loads(listed.splitlines()[-1])
    assert key.endswith(newest["hint"][-4:])
    floodgate.run("keys", "revoke", newest["key_id"])
    answer = httpx.get(f"{floodgate.url}/v1/models", headers={"authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "revoked_api_key")


@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_nothing_is_left_behind(tmp_path: Path, how: str) -> None:
    """Ctrl-C, or kill -9 of the launcher: no process and no port stays."""
    others = listening_ports()
    running = RunningFloodgate(tmp_path / "home", kv_cache_gib=1)
    running.start()
    mark = running.state["mark"]
    # Another Floodgate on this machine may hold the same number on another address.
    ports = ports_of(marked(mark)) - others
    assert len(ports) > 10
    began_at = time.monotonic()
    if how == "interrupt":
        running.stop()
    else:
        running.launcher.kill()
        until_gone(mark)
        running.stop()
    print(f"gone after {time.monotonic() - began_at:.1f} s")
    assert marked(mark) == []
    assert not ports & listening_ports()
    assert "nothing" in running.run("down").lower()


def test_a_taken_port_is_told_at_once(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("0.0.0.0", port)):
        done = subprocess.run(
            [floodgate_command(), "up", "--port", str(port)],
            env=RunningFloodgate(tmp_path / "home").environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    words = done.stdout + done.stderr
    assert done.returncode != 0
    assert str(port) in words
    assert "--port" in words
    assert "Traceback" not in words
