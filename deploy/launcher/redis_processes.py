"""The two Redis processes of a run: ledger (every write on disk) and flow (nothing kept).

Starting them; replica_records.py reads what stands on the flow Redis.
"""

import os
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import redis

from deploy.errors import ProcessFailed, Refused
from deploy.home import Home
from deploy.launcher.child import ChildPlan, python_argv
from deploy.launcher.stop_signal import StopSignal
from deploy.launcher.supervisor import Supervisor, describe_exit
from deploy.ports import LOOPBACK, free_port

Role = Literal["ledger", "flow"]

# A ledger of a million people, 0.7 GB, is read in about 10 s.
_READY_S_MAX = 120.0
_POLL_S = 0.02
# Between choosing a free port and listening on it somebody else may take it.
_PORT_TRIES_MAX = 5
_STOP_S_MAX = 4.0

# A title would be written over the environment, and over the mark in it.
_COMMON = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
dir {folder}
daemonize no
set-proc-title no
logfile ""
save ""
maxmemory-policy noeviction
"""
_ROLE_LINES: dict[Role, str] = {
    # What Redis has acknowledged survives kill -9 and a power cut.
    # A torn tail is repaired by ledger_process: where Redis 7.0 cuts it by itself, half a
    # transaction can stay and swallow the next one (docs/decisions/0004).
    # A backup asks for what a replica would get; there are no others to wait for with it.
    "ledger": "appendonly yes\nappendfsync always\naof-load-truncated no\n"
    "repl-diskless-sync-delay 0\n",
    # Rate limits, slots and capacity heal by themselves within seconds.
    "flow": "appendonly no\n",
}


@dataclass(frozen=True, slots=True)
class RedisPlan:
    """One Redis server of a run. `url` holds its password."""

    role: Role
    port: int
    url: str = field(repr=False)


def start_redis(
    role: Role, home: Home, environ: dict[str, str], supervisor: Supervisor, stop: StopSignal
) -> RedisPlan:
    """Starts a Redis on a free loopback port with a new password; returns once it answers.

    Raises:
        Refused: redis-server is not installed.
        ProcessFailed: it ended or does not answer; the message holds its last words.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise Refused(
            "redis-server is not installed.",
            "apt-get install redis-server (`make up` does it), or put it on PATH.",
        )
    for tries_left in reversed(range(_PORT_TRIES_MAX)):
        plan = _write_plan(role, home)
        child_plan = ChildPlan(
            name=f"redis-{role}",
            argv=_argv(role, program, home),
            log_path=home.logs / f"redis-{role}.log",
            environ=environ,
            grace_s=_STOP_S_MAX,
            port=plan.port,
        )
        supervisor.start(child_plan)
        try:
            _wait_until_ready(plan, supervisor, stop)
        except ProcessFailed:
            taken = "Address already in use" in supervisor.child(child_plan.name).log_tail()
            supervisor.stop(child_plan.name)
            if not (taken and tries_left):
                raise
        else:
            return plan
    raise AssertionError("the last try returned or raised")


def _write_plan(role: Role, home: Home) -> RedisPlan:
    """Writes the configuration, mode 0600: the password must not show in the process list."""
    port, password = free_port(), secrets.token_urlsafe(24)
    folder = home.ledger if role == "ledger" else home.run
    text = _COMMON.format(host=LOOPBACK, port=port, password=password, folder=_quoted(folder))
    descriptor = os.open(_config_path(role, home), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + _ROLE_LINES[role])
    return RedisPlan(role, port, f"redis://:{password}@{LOOPBACK}:{port}/0")


def _argv(role: Role, program: str, home: Home) -> list[str]:
    config = str(_config_path(role, home))
    if role == "flow":
        return [program, config]
    return python_argv("deploy.launcher.ledger_process", str(home.ledger), program, config)


def _config_path(role: Role, home: Home) -> Path:
    return home.run / f"redis-{role}.conf"


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _wait_until_ready(plan: RedisPlan, supervisor: Supervisor, stop: StopSignal) -> None:
    child = supervisor.child(f"redis-{plan.role}")
    client = redis.Redis.from_url(plan.url, socket_timeout=1.0, socket_connect_timeout=1.0)
    with client:
        for _ in range(round(_READY_S_MAX / _POLL_S)):
            status = child.exit_status()
            if status is not None:
                raise ProcessFailed(
                    f"The {plan.role} Redis {describe_exit(status)}: {child.log_tail(3)}",
                    f"See {child.plan.log_path}.",
                )
            try:
                client.ping()
            except redis.RedisError:  # not listening yet, or loading its data
                stop.wait(_POLL_S)
            else:
                return
    raise ProcessFailed(
        f"The {plan.role} Redis did not answer within {_READY_S_MAX:.0f} s.",
        f"See {child.plan.log_path}.",
    )
