"""What is looked at while a load runs, and what a look that fails does."""

import threading

import pytest

from loadtests.probes import looks
from loadtests.probes.looks import Looks


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "PERIOD_S", 0.001)


def test_it_looks_until_it_is_left() -> None:
    seen = threading.Semaphore(0)

    def look() -> int:
        seen.release()
        return 7

    with Looks(look) as taking:
        for _ in range(3):
            assert seen.acquire(timeout=30)
    assert taking.taken[:3] == [7, 7, 7]


def test_a_look_that_fails_fails_the_measurement() -> None:
    failed = threading.Event()

    def look() -> int:
        failed.set()
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"), Looks(look):
        assert failed.wait(timeout=30)
