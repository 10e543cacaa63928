from random import Random

import pytest

from loadtests.crowd.retries import retry_in_s, told_to_wait_s

SOURCE = Random(1)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_milliseconds_come_before_seconds(headers: dict[str, str], wait_s: float | None) -> None:
    assert told_to_wait_s(headers) == wait_s


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_temporary_refusals_are_tried_twice_more(status: int) -> None:
    headers = {"retry-after": "3"}
    waits = [retry_in_s(status, headers, attempt, SOURCE) for attempt in range(3)]
    assert waits == [3.0, 3.0, None]


@pytest.mark.parametrize("status", [200, 400, 401, 404])
def test_other_answers_are_final(status: int) -> None:
    assert retry_in_s(status, {}, 0, SOURCE) is None


def test_x_should_retry_decides() -> None:
    assert retry_in_s(429, {"x-should-retry": "false", "retry-after": "3"}, 0, SOURCE) is None
    assert retry_in_s(400, {"x-should-retry": "true", "retry-after": "3"}, 0, SOURCE) == 3.0


@pytest.mark.parametrize("headers", [{}, {"retry-after": "121"}, {"retry-after": "0"}])
def test_without_a_usable_time_the_wait_doubles(headers: dict[str, str]) -> None:
    first, second = (retry_in_s(503, headers, attempt, SOURCE) for attempt in (0, 1))
    assert first is not None
    assert second is not None
    assert 0.375 <= first <= 0.5
    assert 0.75 <= second <= 1.0
