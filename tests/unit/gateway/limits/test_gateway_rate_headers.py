import pytest

from gateway.limits.rate_headers import Quota, duration, rate_headers


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0ms"),
        (12, "12ms"),
        (1_000, "1s"),
        (1_500, "1.5s"),
        (60_000, "1m0s"),
        (123_250, "2m3.25s"),
    ],
)
def test_durations_are_written_as_openai_does(ms: int, text: str) -> None:
    assert duration(ms) == text


def test_both_families_of_headers_tell_the_same() -> None:
    headers = rate_headers(
        Quota(60, 50, 10_000), Quota(40_000, 39_000, 1_500), Quota(500_000, 499_000, 7_200_000)
    )
    assert headers == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-limit-tokens": "40000",
        "x-ratelimit-remaining-requests": "50",
        "x-ratelimit-remaining-tokens": "39000",
        "x-ratelimit-reset-requests": "10s",
        "x-ratelimit-reset-tokens": "1.5s",
        "ratelimit-policy": '"requests";q=60;w=60, "tokens";q=40000;w=60, '
        '"tokens-day";q=500000;w=86400',
        "ratelimit": '"requests";r=50;t=10, "tokens";r=39000;t=2, "tokens-day";r=499000;t=7200',
    }


def test_a_plan_without_a_day_limit_tells_none() -> None:
    headers = rate_headers(Quota(60, 59, 1), Quota(100, 90, 1), None)
    assert "tokens-day" not in headers["ratelimit"] + headers["ratelimit-policy"]
