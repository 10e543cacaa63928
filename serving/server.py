"""Starting Ray and the vLLM replicas, watching them, and taking everything down again.

To start it by hand, with a Redis server at port 6390:

    FLOODGATE_FLOW_URL=redis://127.0.0.1:6390/0 FLOODGATE_ENGINE_SECRET=0123456789abcdef \\
    FLOODGATE_MODEL=/path/to/model python -c "
    from serving.server import run; from serving.settings import ServingSettings
    run(ServingSettings(), print)"
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from serving import processes
from serving.cluster.ray_host import start_ray, stop_ray
from serving.cluster.ray_logs import keep_ray_logs
from serving.cluster.replica_calls import drain_replicas, replica_addresses
from serving.cluster.replica_fleet import ReplicaFleet
from serving.errors import HostFailed, ServingError
from serving.flow.model_store import note_models
from serving.models.models_file import ModelsFile
from serving.phases import OnPhase, Phases
from serving.ready_model import usable_models
from serving.settings import ServingSettings
from serving.stop_signals import StopRequested, ignore_signals, stop_signals


def run(settings: ServingSettings, on_phase: OnPhase) -> None:
    """Serve until SIGTERM or SIGINT, then leave no process, port or file behind.

    Must be called in the main thread. `on_phase` is given one line per step, with the seconds
    since the start. Raises ServingError with a message for the operator when serving cannot start
    or Ray is lost.
    """
    phases = Phases(on_phase)
    file = ModelsFile(settings)
    models, unusable = usable_models(file.read(), phases)
    home = settings.home.expanduser()
    if ended := processes.end_leftovers(home):
        phases.done(f"ended {ended} processes that an earlier run left behind")
    try:
        with stop_signals(), _run_folder(home) as folder:
            try:
                with _ray_failures(), _logs_of_failures(home, folder):
                    start_ray(settings, models, folder, phases)
                    fleet = ReplicaFleet(settings, folder, phases)
                    fleet.start(models)
                    # Clients are to learn that these have no replica, not that there are none.
                    note_models(settings.flow_url.get_secret_value(), unusable)
                    fleet.watch(file)
            finally:
                _stop(settings, phases)
    except StopRequested:
        phases.done("stopped")


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
def _ray_failures() -> Iterator[None]:
    """Ray raises its own errors and bare RuntimeErrors alike; an operator needs one sentence."""
    try:
        yield
    except ServingError:
        raise
    except Exception as error:
        raise HostFailed(f"Ray failed: {type(error).__name__}: {error}") from error


@contextmanager
def _logs_of_failures(home: Path, folder: Path) -> Iterator[None]:
    """What Ray wrote goes with the run's folder, and an operator has to see why it failed."""
    try:
        yield
    except Exception:
        with suppress(OSError):  # a full disk, of which the failure itself tells
            keep_ray_logs(folder, home / "logs" / "ray")
        raise


def _stop(settings: ServingSettings, phases: Phases) -> None:
    """Drain or abort, stop Serve, stop Ray, then end whatever is left of our processes."""
    # Also after a failed start: a second Ctrl-C must not leave half of it behind.
    ignore_signals()
    started = processes.descendants()
    if addresses := replica_addresses(settings):
        cut = drain_replicas(settings, addresses)
        phases.done(f"drained {len(addresses)} replicas, {cut} requests were cut")
    stop_ray(phases)
    ended = processes.end(started)
    phases.done(f"stopped Ray, {ended} processes had to be ended")
