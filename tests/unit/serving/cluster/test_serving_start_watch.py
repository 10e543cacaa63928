"""Which deployed models have come up, and why others will not."""

from pathlib import Path

import pytest

from serving.cluster.start_watch import StartWatch
from serving.errors import StartFailed, StartTimedOut
from serving.settings import ServingSettings

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own, at its import


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def starts(tmp_path: Path, clock: Clock) -> StartWatch:
    return StartWatch(tmp_path, clock=clock)


@pytest.fixture
def model(settings: ServingSettings) -> ServingSettings:
    return settings.model_copy(update={"model_name": "org/a", "start_s_max": 100.0})


def _application(status: str, message: str = "") -> dict[str, object]:
    from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview

    found = ApplicationStatusOverview(
        status=ApplicationStatus(status), message=message, last_deployed_time_s=0, deployments={}
    )
    return {"floodgate--org--a": found}


def test_one_that_runs_and_one_that_failed_are_told_until_they_are_done_with(
    starts: StartWatch, model: ServingSettings
) -> None:
    starts.begin(model)
    assert list(starts.look(_application("DEPLOYING"))) == []
    assert list(starts.look(_application("RUNNING"))) == [(model, None)]
    ((_, error),) = starts.look(_application("DEPLOY_FAILED", "ValueError: no room for the cache"))
    assert isinstance(error, StartFailed)
    assert "no room for the cache" in str(error)
    assert "org/a" in starts
    starts.end("org/a")
    assert len(starts) == 0
    assert list(starts.look(_application("RUNNING"))) == []


def test_one_that_ray_does_not_know_yet_has_its_time_too(
    starts: StartWatch, model: ServingSettings, clock: Clock
) -> None:
    starts.begin(model)
    assert list(starts.look({})) == []
    clock.now = 101.0
    ((_, error),) = starts.look({})
    assert isinstance(error, StartTimedOut)


def test_where_others_drain_there_is_time_for_each_replica_and_for_the_longest_answer(
    starts: StartWatch, model: ServingSettings, clock: Clock
) -> None:
    starts.begin(
        model.model_copy(update={"replicas_max": 3, "stream_life_s_max": 50.0}), others_drain=True
    )
    clock.now = 349.0
    assert list(starts.look(_application("DEPLOYING"))) == []
    clock.now = 351.0
    assert len(list(starts.look(_application("DEPLOYING")))) == 1
