"""Who counts as absent: the rule that gateway and serving both have."""

import pytest

from gateway.engines.absence import AbsenceWatch as GatewayWatch
from serving.cluster.absence import AbsenceWatch as ServingWatch

ABSENT_S_MAX = 15.0


@pytest.fixture(params=[GatewayWatch, ServingWatch], ids=["gateway", "serving"])
def watch(request: pytest.FixtureRequest) -> GatewayWatch:
    made: GatewayWatch = request.param(ABSENT_S_MAX)
    return made


def looks(watch: GatewayWatch, heard: set[str], seconds: range) -> list[set[str]]:
    return [watch.look(heard, float(second)) for second in seconds]


def test_who_is_not_heard_is_absent_until_heard_again(watch: GatewayWatch) -> None:
    assert watch.look({"a", "b"}, 0) == set()
    assert looks(watch, {"b"}, range(1, 16)) == [set()] * 15
    assert looks(watch, {"b"}, range(16, 18)) == [{"a"}] * 2
    assert looks(watch, {"a"}, range(18, 20)) == [set()] * 2


def test_who_is_forgotten_is_not_absent(watch: GatewayWatch) -> None:
    watch.look({"a"}, 0)
    assert looks(watch, set(), range(1, 17))[-1] == {"a"}
    watch.forget("a")
    assert watch.look(set(), 17) == set()
    watch.forget("a")


@pytest.mark.parametrize("outage_s", [15, 60, 3600])
def test_time_in_which_nobody_looked_makes_nobody_absent(
    watch: GatewayWatch, outage_s: int
) -> None:
    """The flow Redis was gone; the first looks after it find it empty."""
    assert looks(watch, {"a", "b"}, range(10)) == [set()] * 10
    after = 10 + outage_s
    assert looks(watch, set(), range(after, after + 3)) == [set()] * 3
    assert looks(watch, {"b"}, range(after + 3, after + 12)) == [set()] * 9
    found = looks(watch, {"b"}, range(after + 12, after + 17))
    assert found[-1] == {"a"}, "what was watched after it counts"


def test_looks_that_come_late_still_count(watch: GatewayWatch) -> None:
    """A busy machine: a look in three seconds, of which two are counted."""
    watch.look({"a"}, 0)
    found = [watch.look(set(), float(second)) for second in range(3, 60, 3)]
    assert {"a"} in found
