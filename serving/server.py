"""Starting Ray and the vLLM replicas, watching them, and taking everything down again.

To start it by hand, with a Redis server at port 6390:

    FLOODGATE_FLOW_URL=redis://127.0.0.1:6390/0 FLOODGATE_ENGINE_SECRET=0123456789abcdef \\
    FLOODGATE_MODEL=/path/to/model python -c "
    from serving.server import run; from serving.settings import ServingSettings
    run(ServingSettings(), print)"
"""

from __future__ import annotations

import datetime as dt
import http.client
import json
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from serving import processes
from serving.accelerator import Accelerator, choose_accelerator, gpu_count, vllm_is_cpu_build
from serving.engine_config import deployment_options
from serving.environment import run_environment
from serving.errors import StartFailed, StartTimedOut
from serving.model_folder import check_model
from serving.replica_gate import DRAIN_PATH, SECRET_HEADER, STATE_PATH
from serving.settings import ServingSettings
from serving.start_failure import start_failure_reason
from serving.tls import make_certificates

_APP = "floodgate"
_POLL_S = 0.25
# The object store carries no tokens here; this is the least that Ray takes.
_OBJECT_STORE_BYTES = 80 * 2**20
# A stop must fit in 10 s: draining is set apart, then Serve, Ray and what is left.
_SERVE_STOP_S_MAX = 4.0
_RAY_STOP_S_MAX = 3.0
_REPLICA_CALL_S_MAX = 2.0

OnPhase = Callable[[str], None]


class _StopRequested(BaseException):
    """Raised in the main thread by SIGTERM and SIGINT; no library may swallow it."""


def run(settings: ServingSettings, on_phase: OnPhase) -> None:
    """Serve until SIGTERM or SIGINT, then leave no process, port or file behind.

    Must be called in the main thread. `on_phase` is given one line per step, with the seconds
    since the start. Raises ServingError with a message for the operator when serving cannot start.
    """
    phases = _Phases(on_phase)
    check_model(settings.model)
    accelerator = choose_accelerator(
        settings.accelerator, gpus=gpu_count(), cpu_build=vllm_is_cpu_build()
    )
    home = settings.home.expanduser()
    if ended := processes.end_leftovers(home):
        phases.done(f"ended {ended} processes that an earlier run left behind")
    try:
        with _stop_signals(), _run_folder(home) as folder:
            _start_ray(settings, folder, phases)
            try:
                _deploy(settings, accelerator, folder, phases)
                _watch(settings, phases)
            finally:
                _stop(settings, phases)
    except _StopRequested:
        phases.done("stopped")


class _Phases:
    """Reports steps with the time since the start."""

    def __init__(self, on_phase: OnPhase) -> None:
        self._on_phase = on_phase
        self._started_at = time.monotonic()

    def done(self, step: str) -> None:
        self._on_phase(f"{time.monotonic() - self._started_at:5.1f} s  {step}")


@contextmanager
def _stop_signals() -> Iterator[None]:
    """Turn the first SIGTERM or SIGINT into _StopRequested; ignore further ones while stopping."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    _take_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _take_signals() -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        raise _StopRequested

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


@contextmanager
def _run_folder(home: Path) -> Iterator[Path]:
    """A folder for keys, sockets and logs of this run, open to this user alone (mode 0700).

    In the system's temporary folder: Ray's sockets live in it, and their path must stay below
    108 bytes.
    """
    folder = Path(tempfile.mkdtemp(prefix="floodgate-"))
    processes.write_note(home, folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        processes.drop_note(home)


def _start_ray(settings: ServingSettings, folder: Path, phases: _Phases) -> None:
    certificates = make_certificates(folder, now=dt.datetime.now(dt.UTC))
    os.environ.update(
        run_environment(
            settings,
            run_folder=folder,
            certificates=certificates,
            token=secrets.token_hex(32),
        )
    )
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    phases.done("imported Ray")
    ray.init(
        address="local",
        # One for the replica's own process on top of what its engine computes with.
        num_cpus=len(_cores()) + settings.replicas + 1,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=True,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(folder / "ray"),
    )
    # Ray has put its own handlers in.
    _take_signals()
    phases.done("started Ray")
    # Ray insists on a proxy on the head node where replicas have ports of their own. It gets a
    # port that nobody knows, on loopback, and the replicas ask it for the secret too.
    serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(host=settings.replica_host, port=0),
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    phases.done("started Ray Serve")


def _deploy(
    settings: ServingSettings, accelerator: Accelerator, folder: Path, phases: _Phases
) -> None:
    """Deploy the replicas and wait for all of them. Raises StartFailed or StartTimedOut."""
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    from serving.replica import Replica

    cores = _cores()
    deployment = serve.deployment(
        serve.ingress()(Replica), **deployment_options(settings, accelerator, len(cores))
    )
    serve.run_many(
        [serve.RunTarget(deployment.bind(settings, accelerator, cores), name=_APP)],
        wait_for_applications_running=False,
    )
    phases.done(f"loading {settings.served_name} on {settings.replicas} x {accelerator}")
    deadline = time.monotonic() + settings.start_s_max
    while True:
        app = serve.status().applications[_APP]
        if app.status == ApplicationStatus.RUNNING:
            break
        if app.status == ApplicationStatus.DEPLOY_FAILED:
            raise StartFailed(
                f"The engine could not load {settings.model}: "
                + start_failure_reason(_failure_text(app), _worker_logs(folder))
            )
        if time.monotonic() > deadline:
            raise StartTimedOut(
                f"The replicas were not ready within {settings.start_s_max:.0f} s "
                f"(FLOODGATE_START_S_MAX): {app.message or app.status}"
            )
        time.sleep(_POLL_S)
    for url in replica_addresses(settings):
        state = _ask(settings, url, "GET", STATE_PATH, timeout_s=_REPLICA_CALL_S_MAX)
        steps = ", ".join(f"{name} {seconds} s" for name, seconds in state["start_s"].items())
        phases.done(f"replica {state['replica_id']} at {url[0]}:{url[1]}: {steps}")


def _watch(settings: ServingSettings, phases: _Phases) -> None:
    """Report every change of the number of running replicas, until a signal ends it."""
    from ray import serve

    running_before = settings.replicas
    phases.done("ready")
    while True:
        time.sleep(2)
        app = serve.status().applications[_APP]
        states = next(iter(app.deployments.values())).replica_states
        running = int(states.get("RUNNING", 0))
        if running != running_before:
            phases.done(f"{running} of {settings.replicas} replicas running")
        running_before = running


def _stop(settings: ServingSettings, phases: _Phases) -> None:
    """Drain or abort, stop Serve, stop Ray, then end whatever is left of our processes."""
    import ray
    from ray import serve

    started = processes.descendants()
    addresses = list(replica_addresses(settings))
    if addresses:
        _drain(settings, addresses)
        phases.done(f"{len(addresses)} replicas drained ({settings.stop_in_flight})")
    _within(_SERVE_STOP_S_MAX, serve.shutdown)
    phases.done("stopped Ray Serve")
    _within(_RAY_STOP_S_MAX, ray.shutdown)
    ended = processes.end(started)
    phases.done(f"stopped Ray, {ended} processes had to be ended")


def _drain(settings: ServingSettings, addresses: list[tuple[str, int]]) -> None:
    abort = settings.stop_in_flight == "abort"
    within_s = 0.0 if abort else settings.drain_s_max
    path = f"{DRAIN_PATH}?abort={str(abort).lower()}&within_s={within_s}"

    def drain(address: tuple[str, int]) -> None:
        _ask(settings, address, "POST", path, timeout_s=within_s + _REPLICA_CALL_S_MAX)

    with ThreadPoolExecutor(max_workers=len(addresses)) as pool:
        list(pool.map(drain, addresses))


def _ask(
    settings: ServingSettings, address: tuple[str, int], method: str, path: str, *, timeout_s: float
) -> dict[str, Any]:
    """Call one of a replica's own paths; an empty answer if it does not give one in time."""
    connection = http.client.HTTPConnection(*address, timeout=timeout_s)
    try:
        secret = settings.engine_secret.get_secret_value()
        connection.request(method, path, headers={SECRET_HEADER: secret})
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    except (OSError, ValueError, http.client.HTTPException):
        return {"replica_id": "?", "start_s": {}}
    finally:
        connection.close()


def replica_addresses(settings: ServingSettings) -> Iterator[tuple[str, int]]:
    """Host and port of each replica among the processes that this one started."""
    for process in processes.descendants():
        try:
            connections = process.net_connections("tcp")
        except psutil.Error:
            continue
        for connection in connections:
            listens = connection.status == psutil.CONN_LISTEN
            if listens and connection.laddr.port in settings.replica_ports:
                yield connection.laddr.ip, connection.laddr.port


def _within(seconds: float, call: Callable[[], None]) -> None:
    """Run `call`, and go on without it when it takes longer."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)


def _cores() -> tuple[int, ...]:
    """The cores that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0)))


def _failure_text(app: Any) -> str:
    messages = [deployment.message for deployment in app.deployments.values()]
    return "\n".join([app.message, *messages])


def _worker_logs(folder: Path) -> Iterator[str]:
    for path in sorted((folder / "ray" / "session_latest" / "logs").glob("worker-*")):
        yield path.read_text(encoding="utf-8", errors="replace")
