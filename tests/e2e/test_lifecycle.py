"""`floodgate up` and `down` from start to end, and after the worst that can happen to them."""

import asyncio
import contextlib
import json
import socket
import subprocess
import time
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.launcher import marked_processes
from tests.free_ports import free_port
from tests.running_floodgate import RunningFloodgate
from tests.running_floodgate import floodgate as floodgate_command
from tests.serving_faults import Ended, Stream

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def marked(mark: str) -> list[psutil.Process]:
    return marked_processes.find(marked_processes.of_run(mark))


def listening_sockets() -> dict[str, int]:
    """The port of each socket that listens on this machine, by inode.

    Another Floodgate's Ray may take a port of the same number, on the same address even: a port
    alone does not tell whose it is.
    """
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A":
                sockets[rest[5]] = int(local.rpartition(":")[2], 16)
    return sockets


def ports_of(processes: list[psutil.Process]) -> dict[str, int]:
    listening = listening_sockets()
    held = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # closed meanwhile
                held.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    return {inode: port for inode, port in listening.items() if inode in held}


def until_gone(processes: list[psutil.Process]) -> None:
    while not all(map(marked_processes.is_gone, processes)):
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
    running = RunningFloodgate(tmp_path / "home", kv_cache_gib=1)
    running.start()
    mark = running.state["mark"]
    processes = marked(mark)
    ports = ports_of(processes)
    assert len(ports) > 10
    began_at = time.monotonic()
    if how == "interrupt":
        running.stop()
    else:
        running.launcher.kill()
        until_gone(processes)
        running.stop()
    print(f"gone after {time.monotonic() - began_at:.1f} s")
    assert marked(mark) == []
    assert not ports.items() & listening_sockets().items()
    assert "nothing" in running.run("down").lower()


@pytest.mark.long
async def test_a_draining_stop_cuts_no_stream(tmp_path: Path) -> None:
    """The answer takes longer than a stop that does not drain would leave it."""
    running = RunningFloodgate(
        tmp_path / "home", kv_cache_gib=1, stop_in_flight="drain", drain_s_max=120
    )
    await asyncio.to_thread(running.start)
    try:
        mark = running.state["mark"]
        async with running.client() as client:
            stream = Stream(client)
            await stream.begun.wait()
            running.launcher.terminate()
            ended = Ended.of(await stream.text)
    finally:
        await asyncio.to_thread(running.stop)
    assert ended.is_whole, ended
    assert not ended.error_code
    assert "drained 1 replicas, 0 requests were cut" in (
        running.home / "logs" / "serving.log"
    ).read_text(errors="replace")
    assert marked(mark) == []


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
