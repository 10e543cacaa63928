"""The models' replicas under Ray Serve: deployed, awaited, and watched until the end.

Each model is an application of its own: what happens to one stops no other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.accelerator import Accelerator, choose_accelerator, gpu_count, vllm_is_cpu_build
from serving.engine_config import deployment_options
from serving.errors import HostFailed, ServingError, StartFailed, StartTimedOut
from serving.model_keeper import ModelKeeper
from serving.phases import Phases
from serving.ray_host import usable_cores
from serving.replica_calls import replica_addresses, replica_state
from serving.settings import ServingSettings
from serving.start_failure import failed_first, start_failure_reason

_POLL_S = 0.25
_WATCH_PERIOD_S = 1.0
# Ray starts a killed controller again within seconds; replicas serve on meanwhile.
_CONTROLLER_GONE_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """One model, and who sees to it."""

    settings: ServingSettings
    keeper: ModelKeeper

    @property
    def app(self) -> str:
        """The name of its application."""
        return f"floodgate--{self.settings.served_name.replace('/', '--')}"


def deploy(fleets: Sequence[Fleet], folder: Path, phases: Phases) -> list[Fleet]:
    """Deploy all models and wait for their replicas; those that started.

    One that cannot start is told and left aside while another can. Raises StartFailed or
    StartTimedOut when none can.
    """
    from ray import serve

    targets = [_target(fleet, phases) for fleet in fleets]
    serve.run_many(targets, wait_for_applications_running=False)
    started, failures = [], []
    for fleet in fleets:
        try:
            _await_replicas(fleet, folder)
            started.append(fleet)
        except ServingError as error:
            fleet.keeper.give_up()
            failures.append(error)
            phases.done(f"{fleet.settings.served_name} does not start: {error}")
    if not started:
        raise failures[0]
    settings = fleets[0].settings
    for address in replica_addresses(settings):
        if state := replica_state(settings, address):
            steps = ", ".join(f"{step} {seconds} s" for step, seconds in state["start_s"].items())
            phases.done(f"replica {state['replica_id']} at port {address[1]}: {steps}")
    phases.done("ready")
    return started


def _target(fleet: Fleet, phases: Phases) -> Any:
    from ray import serve

    from serving.replica import Replica

    settings, cores = fleet.settings, usable_cores()
    accelerator: Accelerator = choose_accelerator(
        settings.accelerator, gpus=gpu_count(), cpu_build=vllm_is_cpu_build()
    )
    deployment = serve.deployment(
        serve.ingress()(Replica), **deployment_options(settings, accelerator, len(cores))
    )
    phases.done(f"loading {settings.served_name} on {settings.replicas} x {accelerator}")
    # Without a prefix: each replica has a port of its own, on which every path is the model's.
    return serve.RunTarget(
        deployment.bind(settings, accelerator, cores), name=fleet.app, route_prefix=None
    )


def _await_replicas(fleet: Fleet, folder: Path) -> None:
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    settings = fleet.settings
    deadline = time.monotonic() + settings.start_s_max
    while True:
        app = serve.status().applications[fleet.app]
        if app.status == ApplicationStatus.RUNNING:
            return
        if app.status == ApplicationStatus.DEPLOY_FAILED:
            failure = _failure_text(app)
            raise StartFailed(
                f"The engine could not load {settings.model}: "
                + start_failure_reason(failure, _worker_logs(folder, failure))
            )
        if time.monotonic() > deadline:
            raise StartTimedOut(
                f"The replicas were not ready within {settings.start_s_max:.0f} s "
                f"(FLOODGATE_START_S_MAX): {app.message or app.status}"
            )
        time.sleep(_POLL_S)


def watch(fleets: Sequence[Fleet], phases: Phases) -> None:
    """Report every change of the number of replicas, until a signal ends it.

    Raises HostFailed when Ray's controller has been gone for too long.
    """
    told = {fleet.app: (fleet.settings.replicas, fleet.settings.replicas) for fleet in fleets}
    answered_at = time.monotonic()
    while True:
        time.sleep(_WATCH_PERIOD_S)
        try:
            counts = _replica_counts(fleets)
        except Exception as error:  # Ray raises its own errors and bare RuntimeErrors alike
            if time.monotonic() - answered_at > _CONTROLLER_GONE_S_MAX:
                raise HostFailed(f"Ray's controller is gone: {error}") from error
            continue
        answered_at = time.monotonic()
        for fleet in fleets:
            running, wanted = counts[fleet.app]
            fleet.keeper.wanted = wanted
            if counts[fleet.app] != told[fleet.app]:
                name = fleet.settings.served_name
                phases.done(f"{name}: {running} of {wanted} replicas running")
        told = counts


def _replica_counts(fleets: Sequence[Fleet]) -> dict[str, tuple[int, int]]:
    """Of each application the replicas that run, and all but those that stop."""
    from ray import serve

    applications, counts = serve.status().applications, {}
    for fleet in fleets:
        (deployment,) = applications[fleet.app].deployments.values()
        states = {str(state): int(count) for state, count in deployment.replica_states.items()}
        kept = sum(states.values()) - states.get("STOPPING", 0)
        counts[fleet.app] = (states.get("RUNNING", 0), kept)
    return counts


def _failure_text(app: Any) -> str:
    messages = [deployment.message for deployment in app.deployments.values()]
    return "\n".join([app.message, *messages])


def _worker_logs(folder: Path, failure: str) -> Iterator[str]:
    """First those of the processes that failed: others' may be of another model."""
    logs = (folder / "ray" / "session_latest" / "logs").glob("worker-*")
    for path in failed_first(logs, failure):
        yield path.read_text(encoding="utf-8", errors="replace")
