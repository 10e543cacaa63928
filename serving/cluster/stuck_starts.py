"""Ends replicas of this machine that have been starting for too long, so that Ray starts others.

A replacement, or one more for a long line: nobody waits for these as StartWatch waits for what was
deployed. Ray only warns of a slow start, and vLLM waits for its engine's processes without limit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from serving import processes
from serving.cluster.application import application_name
from serving.cluster.replica_calls import is_listening
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from ray.serve.schema import ApplicationStatusOverview

_LOOK_PERIOD_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Start:
    """One whose process has been seen."""

    process: psutil.Process
    settings: ServingSettings
    deadline: float


class StuckStarts:
    """Looks after the replicas of all models."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._starts: dict[str, _Start] = {}  # by the replica's id
        self._looked_at = float("-inf")

    def end(
        self,
        models: Mapping[str, ServingSettings],
        applications: Mapping[str, ApplicationStatusOverview],
    ) -> None:
        """Kill those whose time is over. `applications`: what Ray says of all.

        Asks Ray for more at most once a second, and only while a replica starts; raises what Ray
        raises while its controller is gone.
        """
        now = self._clock()
        is_idle = not self._starts and not _any_starts(applications)
        if is_idle or now - self._looked_at < _LOOK_PERIOD_S:
            return
        self._looked_at = now
        replicas = _replicas()
        self._note(models, replicas, now)
        states = {each["replica_id"]: each["state"] for _, each in replicas}
        for replica_id, start in list(self._starts.items()):
            # One that hangs and is told to stop would be waited for like the longest answer.
            if states.get(replica_id) not in ("STARTING", "STOPPING"):
                del self._starts[replica_id]
            elif now > start.deadline:
                _end(replica_id, start)
                del self._starts[replica_id]

    def _note(
        self,
        models: Mapping[str, ServingSettings],
        replicas: Sequence[tuple[str, dict[str, Any]]],
        now: float,
    ) -> None:
        settings_of = {application_name(name): settings for name, settings in models.items()}
        for app, each in replicas:
            if each["replica_id"] in self._starts or each["state"] != "STARTING":
                continue
            # Before it has a process it waits for room, a GPU perhaps, that another one has.
            process = processes.descendant(each.get("pid"))
            if process is not None and (settings := settings_of.get(app)):
                deadline = now + settings.start_s_max
                self._starts[each["replica_id"]] = _Start(process, settings, deadline)


def _any_starts(applications: Mapping[str, ApplicationStatusOverview]) -> bool:
    deployments = (each for app in applications.values() for each in app.deployments.values())
    return any(
        str(state) == "STARTING" and count
        for each in deployments
        for state, count in each.replica_states.items()
    )


def _replicas() -> list[tuple[str, dict[str, Any]]]:
    """Every replica with its application's name: `serve.status` only counts them."""
    from ray.serve.context import _get_global_client

    applications = _get_global_client().get_serve_details()["applications"]
    return [
        (name, replica)
        for name, app in applications.items()
        for deployment in app["deployments"].values()
        for replica in deployment["replicas"]
    ]


def _end(replica_id: str, start: _Start) -> None:
    # It came up between two looks, and by now it stops.
    if is_listening(start.settings, start.process) or not start.process.is_running():
        return
    processes.kill_family(start.process.pid)
    _log.error(
        "%s: replica %s was not ready within %.0f s (FLOODGATE_START_S_MAX) and was killed",
        start.settings.served_name,
        replica_id,
        start.settings.start_s_max,
    )
