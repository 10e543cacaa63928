"""The launcher against what can happen to it and to each process that it keeps."""

import asyncio
import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.launcher import marked_processes
from tests.free_ports import free_port
from tests.published_replicas import PublishedReplicas
from tests.running_floodgate import RunningFloodgate, floodgate

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition; the test's own time limit ends it."""
    while not condition():
        await asyncio.sleep(0.05)


def lives(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and waits to be noticed does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def try_up(running: RunningFloodgate, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [floodgate(), "up"],
        env={**running.environment, **{f"FLOODGATE_{k.upper()}": v for k, v in settings.items()}},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def pid_of(running: RunningFloodgate, name: str) -> int:
    (pid,) = (entry["pid"] for entry in running.state["processes"] if entry["name"] == name)
    return int(pid)


def watchdog(running: RunningFloodgate) -> psutil.Process:
    (found,) = (
        child
        for child in running.launcher.children()
        if "deploy.launcher.watchdog" in child.cmdline()
    )
    return found


def kill_both(running: RunningFloodgate) -> None:
    """Launcher and watchdog, before the launcher starts another one."""
    running.launcher.suspend()
    watchdog(running).kill()
    running.launcher.kill()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


async def test_up_serves_and_down_leaves_nothing(light: RunningFloodgate) -> None:
    await asyncio.to_thread(light.start)
    state, processes = light.state, light.processes()
    status = json.loads(light.run("status", "--json"))
    assert status["phase"] == "running"
    names = {entry["name"] for entry in status["processes"] if entry["state"] == "running"}
    assert names == {"redis-ledger", "redis-flow", "gateway"}
    keys = [json.loads(line) for line in light.run("keys", "list", "--json").splitlines()]
    assert [key["revoked_at"] is not None for key in keys] == [True]  # the launcher's own

    assert "Stopped" in light.run("down")
    assert not marked_processes.find(marked_processes.of_run(state["mark"]))
    assert not any(lives(one) for one in processes)
    assert is_free(light.port)
    assert all(is_free(entry["port"]) for entry in state["processes"])
    assert not (light.home / "run" / "state.json").exists()
    assert "does not run" in light.run("down")


async def test_status_says_why_a_model_does_not_start(light: RunningFloodgate) -> None:
    await asyncio.to_thread(light.start)
    assert json.loads(light.run("status", "--json"))["models"] == []
    reason = "ValueError: no memory for the cache"
    async with PublishedReplicas(light.state["flow_url"], "moss") as published:
        published.start_failure, published.wanted = reason, 1

        async def told(*options: str) -> str:
            return await asyncio.to_thread(light.run, "status", *options)

        while not (models := json.loads(await told("--json"))["models"]):
            pass
        assert models == [
            {
                "model": "moss",
                "running": 0,
                "replicas_wanted": 1,
                "replicas_max": 9,
                "start_failure": reason,
            }
        ]
        assert f"moss does not start: {reason}" in await told()


async def test_second_up_says_who_runs(light: RunningFloodgate) -> None:
    await asyncio.to_thread(light.start)
    second = try_up(light)
    assert second.returncode == 3
    assert f"process {light.launcher.pid}" in second.stderr
    assert "floodgate down" in second.stderr
    assert json.loads(light.run("status", "--json"))["phase"] == "running"


async def test_keys_and_ledger_outlive_a_run(light: RunningFloodgate) -> None:
    await asyncio.to_thread(light.start)
    key = await asyncio.to_thread(light.new_key)
    headers = {"authorization": f"Bearer {key}"}
    light.stop()
    await asyncio.to_thread(light.start)
    answer = await asyncio.to_thread(httpx.get, f"{light.url}/v1/models", headers=headers)
    assert answer.status_code == 200


async def test_killed_launcher_takes_everything_along(light: RunningFloodgate) -> None:
    await asyncio.to_thread(light.start)
    processes = light.processes()
    light.launcher.kill()
    await until(lambda: not any(lives(one) for one in processes))
    await until(lambda: is_free(light.port))
    light.stop()  # does no more than take note of its end
    await asyncio.to_thread(light.start)


async def test_down_ends_what_a_killed_launcher_and_watchdog_left(light: RunningFloodgate) -> None:
    await asyncio.to_thread(light.start)
    processes = light.processes()
    kill_both(light)
    assert all(lives(one) for one in processes)
    assert "Stopped" in light.run("down")
    assert not any(lives(one) for one in processes)
    assert is_free(light.port)


async def test_up_ends_what_a_killed_launcher_and_watchdog_left(light: RunningFloodgate) -> None:
    await asyncio.to_thread(light.start)
    processes = light.processes()
    kill_both(light)
    light.stop()  # does no more than take note of its end
    await asyncio.to_thread(light.start)
    assert not any(lives(one) for one in processes)


@pytest.mark.parametrize("name", ["redis-ledger", "redis-flow", "gateway"])
async def test_killed_process_comes_back_in_its_place(light: RunningFloodgate, name: str) -> None:
    await asyncio.to_thread(light.start)
    before = light.state
    killed = pid_of(light, name)
    psutil.Process(killed).kill()
    await until(lambda: pid_of(light, name) != killed)
    after = light.state
    assert (after["ledger_url"], after["flow_url"]) == (before["ledger_url"], before["flow_url"])

    def works() -> bool:
        try:
            key = light.new_key()
            headers = {"authorization": f"Bearer {key}"}
            return httpx.get(f"{light.url}/v1/models", headers=headers).status_code == 200
        except (AssertionError, httpx.HTTPError):
            return False

    while not await asyncio.to_thread(works):
        await asyncio.sleep(0.1)


async def test_killed_watchdog_is_replaced(light: RunningFloodgate) -> None:
    await asyncio.to_thread(light.start)
    killed = watchdog(light)
    killed.kill()
    await until(lambda: not lives(killed))
    await until(
        lambda: any(
            lives(child) and "deploy.launcher.watchdog" in child.cmdline()
            for child in light.launcher.children()
        )
    )


def test_port_that_is_taken_names_its_holder(tmp_path: Path) -> None:
    running = RunningFloodgate(tmp_path / "home", upstream_url="http://127.0.0.1:9")
    with socket.create_server(("127.0.0.1", 0)) as holder:
        refused = try_up(running, port=str(holder.getsockname()[1]), host="127.0.0.1")
    assert refused.returncode == 1
    assert "Address already in use" in refused.stderr
    assert f"process {psutil.Process().pid}" in refused.stderr
    assert "--port" in refused.stderr


def test_setting_that_is_wrong_stops_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    running = RunningFloodgate(home, upstream_url="ftp://nowhere", port=free_port())
    refused = try_up(running)
    assert refused.returncode == 1
    assert "FLOODGATE_UPSTREAM_URL" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not marked_processes.find(marked_processes.of_home(str(home)))


def test_model_that_does_not_load_is_told_in_servings_words(tmp_path: Path) -> None:
    home = tmp_path / "home"
    running = RunningFloodgate(home, model=tmp_path / "no-model", host="127.0.0.1")
    refused = try_up(running)
    assert refused.returncode == 1
    assert str(tmp_path / "no-model") in refused.stderr
    assert "serving.log" in refused.stderr
    assert not marked_processes.find(marked_processes.of_home(str(home)))


def test_too_little_memory_is_told_before_the_engine_starts(tmp_path: Path) -> None:
    running = RunningFloodgate(tmp_path / "home", model=tmp_path, kv_cache_gib=100_000)
    refused = try_up(running)
    assert refused.returncode == 1
    assert "GiB of memory" in refused.stderr
    assert "FLOODGATE_KV_CACHE_GIB" in refused.stderr
