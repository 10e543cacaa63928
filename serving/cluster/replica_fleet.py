"""The models' replicas under Ray Serve: deployed, awaited, changed, and watched until the end.

Each model is an application of its own: what happens to one stops no other.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from serving.cluster.application import application, application_name
from serving.cluster.replica_calls import replica_addresses, replica_state
from serving.cluster.silent_replicas import SilentReplicas
from serving.cluster.start_watch import StartWatch
from serving.errors import HostFailed, ServingError, SettingsConflict
from serving.flow.model_store import note_models
from serving.hardware.accelerator import choose_accelerator, gpu_count, vllm_is_cpu_build
from serving.models.model_changes import model_changes
from serving.models.models_file import ModelsFile
from serving.phases import Phases
from serving.ready_model import look_over
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from ray.serve import RunTarget
    from ray.serve.schema import ApplicationStatusOverview

    Applications = Mapping[str, ApplicationStatusOverview]

_POLL_S = 0.25
_WATCH_PERIOD_S = 1.0
# Ray starts a killed controller again within seconds; replicas serve on meanwhile.
_CONTROLLER_GONE_S_MAX = 60.0


class ReplicaFleet:
    """All models of a run. `start`, then `watch` until a signal ends it."""

    def __init__(self, settings: ServingSettings, folder: Path, phases: Phases) -> None:
        self._settings = settings
        self._phases = phases
        self._starts = StartWatch(folder)
        self._kept: dict[str, ServingSettings] = {}
        # Of those that start anew with other terms: what has been running until now.
        self._before: dict[str, ServingSettings] = {}
        self._wanted: Sequence[ServingSettings] | None = None
        self._silent: dict[str, SilentReplicas] = {}
        self._leaving: dict[str, SilentReplicas] = {}
        self._told: dict[str, tuple[int, int]] = {}

    def start(self, models: Sequence[ServingSettings]) -> None:
        """Deploy all models and wait for their replicas.

        One that cannot start is told and taken away while another can. Raises StartFailed or
        StartTimedOut when none can.
        """
        from ray import serve

        self._deploy([self._target(each) for each in models])
        failures: list[ServingError] = []
        while self._starts:
            ended = self._end_starts(serve.status().applications)
            failures += [error for _, error in ended if error is not None]
            time.sleep(_POLL_S)
        if not self._kept:
            raise failures[0]
        for address in replica_addresses(self._settings):
            if state := replica_state(self._settings, address):
                steps = ", ".join(f"{step} {took} s" for step, took in state["start_s"].items())
                self._phases.done(f"replica {state['replica_id']} at port {address[1]}: {steps}")
        self._phases.done("ready")

    def watch(self, file: ModelsFile) -> None:
        """End silent replicas, follow the file, and report every change, until a signal ends it.

        Raises HostFailed when Ray's controller has been gone for too long.
        """
        from ray import serve

        answered_at, trouble = time.monotonic(), ""
        while True:
            time.sleep(_WATCH_PERIOD_S)
            for each in (*self._silent.values(), *self._leaving.values()):
                each.end()
            self._read(file)
            try:
                applications = serve.status().applications
                answered_at = time.monotonic()
                self._look(applications)
                if self._wanted is not None:
                    self._change_to(self._wanted)
                    self._wanted = None
                trouble = ""
            except Exception as error:  # Ray raises its own errors and bare RuntimeErrors alike
                if time.monotonic() - answered_at > _CONTROLLER_GONE_S_MAX:
                    raise HostFailed(f"Ray's controller is gone: {error}") from error
                if trouble != (trouble := str(error)):
                    self._phases.done(f"Ray fails and is asked again: {error}")

    def _read(self, file: ModelsFile) -> None:
        try:
            models = file.read_change()
        except SettingsConflict as error:
            self._phases.done(f"the models stay as they are: {error}")
            return
        if models is not None:
            self._wanted = models

    def _look(self, applications: Applications) -> None:
        for settings, error in self._end_starts(applications):
            if error is None:
                self._phases.done(f"{settings.served_name} is as the file says")
        for name in [each for each in self._leaving if application_name(each) not in applications]:
            del self._leaving[name]
            self._phases.done(f"{name} is gone")
        for name, counts in _replica_counts(self._kept, applications).items():
            if self._told[name] != counts:
                self._phases.done(f"{name}: {counts[0]} of {counts[1]} replicas running")
            self._told[name] = counts

    def _change_to(self, models: Sequence[ServingSettings]) -> None:
        """Have Ray deploy what is new or different and delete what is gone; waits for neither.

        Raises what Ray raises while its controller is gone, and may then be called once more.
        """
        from ray import serve

        usable, lost = look_over(models)
        errors: dict[str, Exception] = {**lost}
        changes = model_changes(self._kept, usable, left_alone=lost)
        targets = []
        for each in (*changes.added, *changes.changed):
            try:
                targets.append(self._target(each))
            except (ServingError, ValueError, TypeError) as error:  # the latter are Ray's
                errors[each.served_name] = error
        self._deploy(targets)
        for name in changes.removed:
            serve.delete(application_name(name), _blocking=False)
            self._leaving[name] = self._silent[name]
            self._forget(name)
            self._phases.done(f"{name} goes when it has ended what it has")
        for name, reason in errors.items():
            self._tell_failure(name, reason)
        if new := errors.keys() - self._kept.keys():
            note_models(self._settings.flow_url.get_secret_value(), new)

    def _deploy(self, targets: Sequence[_Target]) -> None:
        from ray import serve

        if targets:
            run_targets = [each.run_target for each in targets]
            serve.run_many(run_targets, wait_for_applications_running=False)
        for each in targets:
            self._phases.done(each.step)
            settings = each.settings
            name = settings.served_name
            if name in self._kept and name not in self._starts:
                self._before[name] = self._kept[name]
            others_drain = name in self._before or name in self._leaving
            self._starts.begin(settings, others_drain=others_drain)
            self._kept[name] = settings
            self._told.setdefault(name, (settings.replicas, settings.replicas))
            self._leaving.pop(name, None)
            if name not in self._silent:
                self._silent[name] = SilentReplicas(settings)

    def _end_starts(
        self, applications: Applications
    ) -> list[tuple[ServingSettings, ServingError | None]]:
        """Those that came up, and those that failed, which are told and taken back."""
        ended = list(self._starts.look(applications))
        for settings, error in ended:
            if error is not None:
                self._take_back(settings.served_name, error)
            self._starts.end(settings.served_name)
            self._before.pop(settings.served_name, None)
        return ended

    def _take_back(self, name: str, error: ServingError) -> None:
        from ray import serve

        if before := self._before.get(name):
            # Its replicas that are left run on: Ray knows them by their version.
            target = self._target(before).run_target
            serve.run_many([target], wait_for_applications_running=False)
            self._kept[name] = before
        else:
            # Its policy would go on telling gateways that replicas are wanted.
            serve.delete(application_name(name), _blocking=False)
            self._forget(name)
        self._tell_failure(name, error)

    def _tell_failure(self, name: str, error: Exception) -> None:
        outcome = "stays as it was" if name in self._kept else "does not start"
        self._phases.done(f"{name} {outcome}: {error}")

    def _forget(self, name: str) -> None:
        del self._kept[name], self._silent[name], self._told[name]
        self._before.pop(name, None)
        self._starts.end(name)

    def _target(self, settings: ServingSettings) -> _Target:
        from ray import serve

        accelerator = choose_accelerator(
            settings.accelerator, gpus=gpu_count(), cpu_build=vllm_is_cpu_build()
        )
        name = settings.served_name
        is_kept = name in self._kept
        # Without a prefix: each replica has a port of its own, on which every path is the model's.
        run_target = serve.RunTarget(
            application(settings, accelerator, is_kept=is_kept),
            name=application_name(name),
            route_prefix=None,
        )
        step = f"loading {name} on {settings.replicas} x {accelerator}"
        return _Target(settings, run_target, f"{name} changes" if is_kept else step)


@dataclass(frozen=True, slots=True)
class _Target:
    """What Ray is to deploy, and how that is told."""

    settings: ServingSettings
    run_target: RunTarget
    step: str


def _replica_counts(
    models: Iterable[str], applications: Applications
) -> dict[str, tuple[int, int]]:
    """Of each model the replicas that run, and all but those that stop."""
    counts = {}
    for name in models:
        if app := applications.get(application_name(name)):
            states: Counter[str] = Counter()
            for deployment in app.deployments.values():
                states.update({str(state): n for state, n in deployment.replica_states.items()})
            counts[name] = (states["RUNNING"], states.total() - states["STOPPING"])
    return counts
