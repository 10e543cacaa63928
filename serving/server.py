"""Starting Ray and the vLLM replicas, watching them, and taking everything down again.

To start it by hand, with a Redis server at port 6390:

    FLOODGATE_FLOW_URL=redis://127.0.0.1:6390/0 FLOODGATE_ENGINE_SECRET=0123456789abcdef \\
    FLOODGATE_MODEL=/path/to/model python -c "
    from serving.server import run; from serving.settings import ServingSettings
    run(ServingSettings(), print)"
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving import processes
from serving.accelerator import Accelerator, choose_accelerator, gpu_count, vllm_is_cpu_build
from serving.engine_config import deployment_options
from serving.environment import run_environment
from serving.errors import HostFailed, ServingError, StartFailed, StartTimedOut
from serving.lora_adapters import check_adapters
from serving.model_folder import check_model, engine_folder
from serving.publisher import ModelStore, Publisher
from serving.record import model_record_json
from serving.replica_calls import drain_replicas, replica_addresses, replica_state
from serving.settings import ServingSettings
from serving.start_failure import start_failure_reason
from serving.stop_signals import StopRequested, ignore_signals, stop_signals, take_signals
from serving.tls import make_certificates

_APP = "floodgate"
_POLL_S = 0.25
_WATCH_PERIOD_S = 2.0
# The object store carries no tokens here; this is the least that Ray takes.
_OBJECT_STORE_BYTES = 80 * 2**20
# A stop must fit in 10 s: draining is set apart, then Serve, Ray and what is left.
_SERVE_STOP_S_MAX = 4.0
_RAY_STOP_S_MAX = 3.0

OnPhase = Callable[[str], None]


def run(settings: ServingSettings, on_phase: OnPhase) -> None:
    """Serve until SIGTERM or SIGINT, then leave no process, port or file behind.

    Must be called in the main thread. `on_phase` is given one line per step, with the seconds
    since the start. Raises ServingError with a message for the operator when serving cannot start
    or Ray is lost.
    """
    phases = _Phases(on_phase)
    settings = _with_engine_folder(settings)
    accelerator = choose_accelerator(
        settings.accelerator, gpus=gpu_count(), cpu_build=vllm_is_cpu_build()
    )
    home = settings.home.expanduser()
    if ended := processes.end_leftovers(home):
        phases.done(f"ended {ended} processes that an earlier run left behind")
    try:
        with stop_signals(), _run_folder(home) as folder, _model_record(settings):
            try:
                with _ray_failures():
                    _start_ray(settings, folder, phases)
                    _deploy(settings, accelerator, folder, phases)
                    _watch(settings, phases)
            finally:
                _stop(settings, phases)
    except StopRequested:
        phases.done("stopped")


def _with_engine_folder(settings: ServingSettings) -> ServingSettings:
    """The settings with the folder that the engine reads, under the name that clients know."""
    check_model(settings.model)
    check_adapters(settings.lora_modules, served_name=settings.served_name)
    folder = engine_folder(settings.model, settings.home.expanduser().absolute())
    return settings.model_copy(update={"model": folder, "model_name": settings.served_name})


class _Phases:
    """Reports steps with the time since the start."""

    def __init__(self, on_phase: OnPhase) -> None:
        self._on_phase = on_phase
        self._started_at = time.monotonic()

    def done(self, step: str) -> None:
        self._on_phase(f"{time.monotonic() - self._started_at:5.1f} s  {step}")


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


@contextmanager
def _model_record(settings: ServingSettings) -> Iterator[None]:
    """While it holds, the gateway knows that somebody sees to the model's replicas."""
    store = ModelStore(settings.flow_url.get_secret_value(), model=settings.served_name)
    record = model_record_json(
        replicas_wanted=settings.replicas, adapters=tuple(settings.lora_modules)
    )
    publisher = Publisher(store, lambda: record)
    publisher.start()
    try:
        yield
    finally:
        publisher.stop()


@contextmanager
def _ray_failures() -> Iterator[None]:
    """Ray raises its own errors and bare RuntimeErrors alike; an operator needs one sentence."""
    try:
        yield
    except ServingError:
        raise
    except Exception as error:
        raise HostFailed(f"Ray failed: {type(error).__name__}: {error}") from error


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
    take_signals()
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
    _await_replicas(settings, folder)
    for address in replica_addresses(settings):
        if state := replica_state(settings, address):
            steps = ", ".join(f"{step} {seconds} s" for step, seconds in state["start_s"].items())
            phases.done(f"replica {state['replica_id']} at port {address[1]}: {steps}")
    phases.done("ready")


def _await_replicas(settings: ServingSettings, folder: Path) -> None:
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    deadline = time.monotonic() + settings.start_s_max
    while True:
        app = serve.status().applications[_APP]
        if app.status == ApplicationStatus.RUNNING:
            return
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


def _watch(settings: ServingSettings, phases: _Phases) -> None:
    """Report every change of the number of running replicas, until a signal ends it."""
    from ray import serve

    running_before = settings.replicas
    while True:
        time.sleep(_WATCH_PERIOD_S)
        deployments = serve.status().applications[_APP].deployments.values()
        running = sum(int(each.replica_states.get("RUNNING", 0)) for each in deployments)
        if running != running_before:
            phases.done(f"{running} of {settings.replicas} replicas running")
        running_before = running


def _stop(settings: ServingSettings, phases: _Phases) -> None:
    """Drain or abort, stop Serve, stop Ray, then end whatever is left of our processes."""
    import ray
    from ray import serve

    # Also after a failed start: a second Ctrl-C must not leave half of it behind.
    ignore_signals()
    started = processes.descendants()
    if addresses := replica_addresses(settings):
        cut = drain_replicas(settings, addresses)
        phases.done(f"drained {len(addresses)} replicas, {cut} requests were cut")
    # Without a running Ray, Serve would start one to ask it whether there is something to stop.
    if ray.is_initialized():
        _within(_SERVE_STOP_S_MAX, serve.shutdown)
        phases.done("stopped Ray Serve")
        _within(_RAY_STOP_S_MAX, ray.shutdown)
    ended = processes.end(started)
    phases.done(f"stopped Ray, {ended} processes had to be ended")


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
