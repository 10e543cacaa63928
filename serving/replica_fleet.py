"""A model's replicas under Ray Serve: deployed, awaited, and watched until the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving.accelerator import Accelerator
from serving.engine_config import deployment_options
from serving.errors import HostFailed, StartFailed, StartTimedOut
from serving.model_keeper import ModelKeeper
from serving.phases import Phases
from serving.ray_host import usable_cores
from serving.replica_calls import replica_addresses, replica_state
from serving.settings import ServingSettings
from serving.start_failure import start_failure_reason

_APP = "floodgate"
_POLL_S = 0.25
_WATCH_PERIOD_S = 1.0
# Ray starts a killed controller again within seconds; replicas serve on meanwhile.
_CONTROLLER_GONE_S_MAX = 60.0


def deploy(
    settings: ServingSettings, accelerator: Accelerator, folder: Path, phases: Phases
) -> None:
    """Deploy the replicas and wait for all of them. Raises StartFailed or StartTimedOut."""
    from ray import serve

    from serving.replica import Replica

    cores = usable_cores()
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


def watch(settings: ServingSettings, keeper: ModelKeeper, phases: Phases) -> None:
    """Report every change of the number of replicas, until a signal ends it.

    Raises HostFailed when Ray's controller has been gone for too long.
    """
    told = (settings.replicas, settings.replicas)
    answered_at = time.monotonic()
    while True:
        time.sleep(_WATCH_PERIOD_S)
        try:
            counts = _replica_counts()
        except Exception as error:  # Ray raises its own errors and bare RuntimeErrors alike
            if time.monotonic() - answered_at > _CONTROLLER_GONE_S_MAX:
                raise HostFailed(f"Ray's controller is gone: {error}") from error
            continue
        answered_at = time.monotonic()
        running, wanted = counts
        keeper.wanted = wanted
        if counts != told:
            phases.done(f"{running} of {wanted} replicas running")
        told = counts


def _replica_counts() -> tuple[int, int]:
    """Replicas that run, and all but those that stop."""
    from ray import serve

    (deployment,) = serve.status().applications[_APP].deployments.values()
    states = {str(state): int(count) for state, count in deployment.replica_states.items()}
    return states.get("RUNNING", 0), sum(states.values()) - states.get("STOPPING", 0)


def _failure_text(app: Any) -> str:
    messages = [deployment.message for deployment in app.deployments.values()]
    return "\n".join([app.message, *messages])


def _worker_logs(folder: Path) -> Iterator[str]:
    for path in sorted((folder / "ray" / "session_latest" / "logs").glob("worker-*")):
        yield path.read_text(encoding="utf-8", errors="replace")
