"""Floodgate itself, started by its command as users start it."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.clients import http_probe
from loadtests.errors import BenchError, ProcessFailedError
from loadtests.process import Process, free_port
from loadtests.stack.redis_pair import RedisPair
from loadtests.stack.target import Target

GATEWAY_READY_S_MAX = 60.0
COMMAND_S_MAX = 60.0
# High enough never to be what a bench measures.
SLOTS = 100_000
PLANS_FILE = Path(__file__).with_name("plans.yaml")


def floodgate_argv(*arguments: str) -> list[str]:
    """The command line of `floodgate`, also where it is not installed as a script."""
    script = Path(sys.executable).with_name("floodgate")
    if script.exists():
        return [str(script), *arguments]
    return [sys.executable, "-m", "deploy.cli", *arguments]


def run_floodgate(
    arguments: Sequence[str], env: Mapping[str, str], deadline_s: float = COMMAND_S_MAX
) -> str:
    """Run a command and return what it printed on standard output.

    Raises:
        BenchError: it failed or took longer; the message holds what it said.
    """
    try:
        done = subprocess.run(
            floodgate_argv(*arguments),
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(
            f"floodgate {' '.join(arguments)}: not done in {deadline_s:g} s"
        ) from error
    if done.returncode != 0:
        raise BenchError(f"floodgate {' '.join(arguments)} failed: {done.stderr or done.stdout}")
    return done.stdout


def start_gateway_process(
    folder: Path,
    env: Mapping[str, str],
    *,
    workers: int = 1,
    core: int | None = None,
    ready_path: str = "/readyz",
) -> tuple[str, Process]:
    """A gateway's URL and process, once `ready_path` answers; its log goes to the folder.

    Raises:
        BenchError: it ended, or was not ready in time; then it is stopped.
    """
    port = free_port()
    process = Process(
        "gateway",
        floodgate_argv("gateway", "--port", str(port), "--workers", str(workers)),
        log_path=folder / "gateway.log",
        core=core,
        env=env,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        http_probe.wait_until_ok(f"{url}{ready_path}", process, GATEWAY_READY_S_MAX)
    except BaseException:
        process.stop()
        raise
    return url, process


def start_gateway(
    upstream_url: str, redis: RedisPair, folder: Path, core: int, tokenizer: Path | None
) -> Target:
    """One gateway worker in front of the upstream, with a key from a redeemed code.

    All of admission is on: the prompt counted with a tokenizer (bytes where there is none), limits
    of the minute and the day, accounts kept apart in the prefix cache, the line. Everything else
    that is not about reaching the upstream stays at its default.
    """
    env = {
        "FLOODGATE_LEDGER_URL": redis.ledger_url,
        "FLOODGATE_FLOW_URL": redis.flow_url,
        "FLOODGATE_UPSTREAM_URL": upstream_url,
        "FLOODGATE_SLOTS": str(SLOTS),
        "FLOODGATE_PLANS_FILE": str(PLANS_FILE),
        "FLOODGATE_TOKENIZER": str(tokenizer or ""),
        "FLOODGATE_CACHE_SALT_SECRET": secrets.token_hex(16),
        "FLOODGATE_HOST": "127.0.0.1",
        "FLOODGATE_HOME": str(folder / "home"),
    }
    url, process = start_gateway_process(folder, env, core=core)
    try:
        key = redeem(url, create_code(env))
    except BaseException:
        process.stop()
        raise
    return Target(
        "Floodgate gateway", url, process, {"Authorization": f"Bearer {key}"}, "key, limits, line"
    )


def create_code(env: Mapping[str, str]) -> str:
    """A fresh invite code."""
    printed = run_floodgate(["invites", "create", "--count", "1", "--json"], env)
    try:
        return first_code(json.loads(printed))
    except (ValueError, LookupError, TypeError) as error:
        raise BenchError(f"no code in what `invites create --json` printed: {printed}") from error


def first_code(printed: Any) -> str:
    """The code of the first invite in the command's JSON."""
    invites = printed["invites"] if isinstance(printed, dict) else printed
    return str(invites[0]["code"])


def redeem(url: str, code: str) -> str:
    """Turn a code into an API key over HTTP.

    Raises:
        ProcessFailedError: the gateway refused the code.
    """
    # An address has one account for ever, and the whole path's ledger outlives a bench.
    email = f"bench+{secrets.token_hex(6)}@example.com"
    body = json.dumps({"code": code, "email": email}).encode()
    answer = http_probe.call(
        "POST", f"{url}/invites/redeem", headers={"Content-Type": "application/json"}, body=body
    )
    if answer.status not in (200, 201):
        raise ProcessFailedError(f"redeeming answered {answer.status}: {answer.body[:300]!r}")
    return str(answer.json()["api_key"])
