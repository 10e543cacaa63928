"""Ray is made to try again what it has given up, later each time."""

from serving.scaling.start_retry import StartRetry


def retries(retry: StartRetry, since: float, until: float) -> list[float]:
    """When Ray was told to have none, with a start that fails at once each time."""
    found, target, now = [], 1, since
    while now < until:
        told = retry.target(1, target=target, running=0, has_failed=bool(target), now=now)
        if target and not told:
            found.append(now)
        target, now = told, now + 1.0
    return found


def test_what_starts_by_itself_is_left_alone() -> None:
    retry = StartRetry()
    told = [retry.target(3, target=3, running=0, has_failed=False, now=now) for now in range(900)]
    assert set(told) == {3}


def test_it_is_tried_again_after_a_while_that_doubles_up_to_five_minutes() -> None:
    times = retries(StartRetry(), 0.0, 1_000.0)
    # A second each to be told of 0, and of 1 again.
    between = [later - earlier for earlier, later in zip([-2.0, *times], times, strict=False)]
    assert [round(seconds - 2) for seconds in between] == [10, 20, 40, 80, 160, 300, 300]


def test_it_stays_at_none_until_ray_has_forgotten() -> None:
    retry = StartRetry()
    assert retry.target(1, target=1, running=0, has_failed=True, now=0.0) == 1
    assert retry.target(1, target=1, running=0, has_failed=True, now=10.0) == 0
    assert retry.target(1, target=0, running=0, has_failed=True, now=11.0) == 0
    assert retry.target(1, target=0, running=0, has_failed=False, now=12.0) == 1


def test_a_start_that_succeeds_begins_the_count_anew() -> None:
    retry = StartRetry()
    assert retries(retry, 0.0, 60.0)
    assert retry.target(1, target=1, running=1, has_failed=False, now=100.0) == 1
    assert retries(retry, 200.0, 215.0) == [210.0]
