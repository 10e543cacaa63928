"""The models' replicas under Ray Serve: deployed, awaited, and watched until the end.

Each model is an application of its own: what happens to one stops no other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from serving.cluster.application import application, application_name
from serving.cluster.replica_calls import replica_addresses, replica_state
from serving.cluster.silent_replicas import SilentReplicas
from serving.cluster.start_failure import failed_first, start_failure_reason
from serving.errors import HostFailed, ServingError, StartFailed, StartTimedOut
from serving.hardware.accelerator import choose_accelerator, gpu_count, vllm_is_cpu_build
from serving.phases import Phases
from serving.settings import ServingSettings

_POLL_S = 0.25
_WATCH_PERIOD_S = 1.0
# Ray starts a killed controller again within seconds; replicas serve on meanwhile.
_CONTROLLER_GONE_S_MAX = 60.0


def deploy(
    models: Sequence[ServingSettings], folder: Path, phases: Phases
) -> list[ServingSettings]:
    """Deploy all models and wait for their replicas; those that started.

    One that cannot start is told and taken away while another can. Raises StartFailed or
    StartTimedOut when none can.
    """
    from ray import serve

    targets = [_target(settings, phases) for settings in models]
    serve.run_many(targets, wait_for_applications_running=False)
    started, failures = [], []
    for settings in models:
        try:
            _await_replicas(settings, folder)
            started.append(settings)
        except ServingError as error:
            # Its policy would go on telling gateways that replicas are wanted.
            serve.delete(application_name(settings), _blocking=False)
            failures.append(error)
            phases.done(f"{settings.served_name} does not start: {error}")
    if not started:
        raise failures[0]
    settings = models[0]
    for address in replica_addresses(settings):
        if state := replica_state(settings, address):
            steps = ", ".join(f"{step} {seconds} s" for step, seconds in state["start_s"].items())
            phases.done(f"replica {state['replica_id']} at port {address[1]}: {steps}")
    phases.done("ready")
    return started


def _target(settings: ServingSettings, phases: Phases) -> Any:
    from ray import serve

    accelerator = choose_accelerator(
        settings.accelerator, gpus=gpu_count(), cpu_build=vllm_is_cpu_build()
    )
    phases.done(f"loading {settings.served_name} on {settings.replicas} x {accelerator}")
    # Without a prefix: each replica has a port of its own, on which every path is the model's.
    return serve.RunTarget(
        application(settings, accelerator), name=application_name(settings), route_prefix=None
    )


def _await_replicas(settings: ServingSettings, folder: Path) -> None:
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    deadline = time.monotonic() + settings.start_s_max
    while True:
        app = serve.status().applications[application_name(settings)]
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


def watch(models: Sequence[ServingSettings], phases: Phases) -> None:
    """End silent replicas and report every change of their number, until a signal ends it.

    Raises HostFailed when Ray's controller has been gone for too long.
    """
    told = {each.served_name: (each.replicas, each.replicas) for each in models}
    silent = [SilentReplicas(each) for each in models]
    answered_at = time.monotonic()
    while True:
        time.sleep(_WATCH_PERIOD_S)
        for each in silent:
            each.end()
        try:
            counts = _replica_counts(models)
        except Exception as error:  # Ray raises its own errors and bare RuntimeErrors alike
            if time.monotonic() - answered_at > _CONTROLLER_GONE_S_MAX:
                raise HostFailed(f"Ray's controller is gone: {error}") from error
            continue
        answered_at = time.monotonic()
        for name, (running, kept) in counts.items():
            if told[name] != (running, kept):
                phases.done(f"{name}: {running} of {kept} replicas running")
        told = counts


def _replica_counts(models: Sequence[ServingSettings]) -> dict[str, tuple[int, int]]:
    """Of each model the replicas that run, and all but those that stop."""
    from ray import serve

    applications, counts = serve.status().applications, {}
    for settings in models:
        (deployment,) = applications[application_name(settings)].deployments.values()
        states = {str(state): int(count) for state, count in deployment.replica_states.items()}
        kept = sum(states.values()) - states.get("STOPPING", 0)
        counts[settings.served_name] = (states.get("RUNNING", 0), kept)
    return counts


def _failure_text(app: Any) -> str:
    messages = [deployment.message for deployment in app.deployments.values()]
    return "\n".join([app.message, *messages])


def _worker_logs(folder: Path, failure: str) -> Iterator[str]:
    """First those of the processes that failed: others' may be of another model."""
    logs = (folder / "ray" / "session_latest" / "logs").glob("worker-*")
    for path in failed_first(logs, failure):
        yield path.read_text(encoding="utf-8", errors="replace")
