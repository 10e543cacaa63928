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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from serving import processes, replica_fleet
from serving.errors import HostFailed, ModelUnusable, ServingError
from serving.lora_adapters import check_adapters
from serving.model_folder import check_model, engine_folder
from serving.model_keeper import ModelKeeper
from serving.models_file import read_models
from serving.phases import OnPhase, Phases
from serving.ray_host import start_ray, stop_ray
from serving.replica_calls import drain_replicas, replica_addresses
from serving.replica_fleet import Fleet
from serving.settings import ServingSettings
from serving.stop_signals import StopRequested, ignore_signals, stop_signals


def run(settings: ServingSettings, on_phase: OnPhase) -> None:
    """Serve until SIGTERM or SIGINT, then leave no process, port or file behind.

    Must be called in the main thread. `on_phase` is given one line per step, with the seconds
    since the start. Raises ServingError with a message for the operator when serving cannot start
    or Ray is lost.
    """
    phases = Phases(on_phase)
    models, unusable = usable_models(read_models(settings), phases)
    home = settings.home.expanduser()
    if ended := processes.end_leftovers(home):
        phases.done(f"ended {ended} processes that an earlier run left behind")
    try:
        with stop_signals(), _run_folder(home) as folder, ExitStack() as keeping:
            fleets = [Fleet(each, keeping.enter_context(ModelKeeper(each))) for each in models]
            # Clients are to learn that these have no replica, and not that there is no such model.
            others = [keeping.enter_context(ModelKeeper(each)) for each in unusable]
            try:
                with _ray_failures():
                    start_ray(settings, models, folder, phases)
                    started = replica_fleet.deploy(fleets, folder, phases)
                    for keeper in others:
                        keeper.give_up()
                    replica_fleet.watch(started, phases)
            finally:
                _stop(settings, phases)
    except StopRequested:
        phases.done("stopped")


def usable_models(
    models: Sequence[ServingSettings], phases: Phases
) -> tuple[list[ServingSettings], list[ServingSettings]]:
    """Those to serve, with the folders that the engine reads; and those that no engine could load.

    The latter are told. Raises ModelUnusable where there are no others.
    """
    usable, unusable, errors = [], [], []
    for each in models:
        try:
            usable.append(_with_engine_folder(each))
        except ModelUnusable as error:
            unusable.append(each)
            errors.append(error)
    if not usable:
        raise errors[0]
    for each, reason in zip(unusable, errors, strict=True):
        phases.done(f"{each.served_name} does not start: {reason}")
    return usable, unusable


def _with_engine_folder(settings: ServingSettings) -> ServingSettings:
    """The settings with the folder that the engine reads, under the name that clients know."""
    check_model(settings.model)
    check_adapters(settings.lora_modules, served_name=settings.served_name)
    folder = engine_folder(settings.model, settings.home.expanduser().absolute())
    return settings.model_copy(update={"model": folder, "model_name": settings.served_name})


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
