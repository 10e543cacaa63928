import itertools

import pytest

from gateway.app.terms import notice_times
from gateway.line.admission import HEARTBEAT_S
from gateway.settings import GatewaySettings


@pytest.mark.parametrize("beat_takes_s", [0.0, 0.3, 1.0])
def test_by_default_notices_begin_after_a_second_and_then_come_at_least_every_five(
    beat_takes_s: float,
) -> None:
    """The loop looks who is due once a second, and takes its time for it."""
    settings = GatewaySettings(ledger_url="redis://h/0", flow_url="redis://h/1")
    times = notice_times(settings)
    due_at = times.first_s(stream=True)
    told_at = []
    for beat in range(100):
        now = beat * (HEARTBEAT_S + beat_takes_s)
        if due_at <= now:
            told_at.append(now)
            due_at = now + times.every_s
    assert 1 <= told_at[0] <= 1 + HEARTBEAT_S + beat_takes_s
    assert max(b - a for a, b in itertools.pairwise(told_at)) <= 5
    assert times.first_s(stream=False) == 20


def test_without_notices_nobody_ever_hears_of_a_place() -> None:
    settings = GatewaySettings(
        ledger_url="redis://h/0",
        flow_url="redis://h/1",
        queue_notices=False,
    )
    times = notice_times(settings)
    assert times.first_s(stream=True) == times.first_s(stream=False) == float("inf")
