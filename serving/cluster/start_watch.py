"""Which applications have come up since they were deployed, and why others have not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from serving.cluster.application import application_name
from serving.cluster.start_failure import failed_first, start_failure_reason
from serving.errors import ServingError, StartFailed, StartTimedOut
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from ray.serve.schema import ApplicationStatusOverview


class StartWatch:
    """Models from `begin` to `end`. `folder` is the run's, with the logs of Ray's workers."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._models: dict[str, tuple[ServingSettings, float]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._models

    def __len__(self) -> int:
        return len(self._models)

    def begin(self, settings: ServingSettings, *, others_drain: bool = False) -> None:
        """The model was deployed just now; in the place of others, where those are to drain."""
        seconds = settings.start_s_max
        if others_drain:  # one replica comes after another, and the last answers may be long
            seconds = seconds * settings.most_replicas + settings.stream_life_s_max
        self._models[settings.served_name] = (settings, self._clock() + seconds)

    def end(self, name: str) -> None:
        """Look at it no more."""
        self._models.pop(name, None)

    def look(
        self, applications: Mapping[str, ApplicationStatusOverview]
    ) -> Iterator[tuple[ServingSettings, ServingError | None]]:
        """Those that have all their replicas, and with the reason those that will not."""
        from ray.serve.schema import ApplicationStatus

        for settings, deadline in list(self._models.values()):
            app = applications.get(application_name(settings.served_name))
            status = app.status if app else ApplicationStatus.NOT_STARTED
            if status == ApplicationStatus.RUNNING:
                yield settings, None
            elif app and status == ApplicationStatus.DEPLOY_FAILED:
                yield settings, self._failure(settings, app)
            elif self._clock() > deadline:
                yield (
                    settings,
                    StartTimedOut(
                        f"The replicas were not ready within {settings.start_s_max:.0f} s "
                        f"(FLOODGATE_START_S_MAX): {(app and app.message) or status}"
                    ),
                )

    def _failure(self, settings: ServingSettings, app: ApplicationStatusOverview) -> StartFailed:
        failure = "\n".join([app.message, *(each.message for each in app.deployments.values())])
        return StartFailed(
            f"The engine could not load {settings.model}: "
            + start_failure_reason(failure, self._worker_logs(failure))
        )

    def _worker_logs(self, failure: str) -> Iterator[str]:
        """First those of the processes that failed: others' may be of another model."""
        logs = (self._folder / "ray" / "session_latest" / "logs").glob("worker-*")
        for path in failed_first(logs, failure):
            yield path.read_text(encoding="utf-8", errors="replace")
