"""Ports of tests: nobody else gets them, also while nothing listens there."""

import subprocess
import sys

import pytest

from tests.free_ports import free_port

pytestmark = pytest.mark.integration

_DRAW_MANY = "from tests.free_ports import free_port; print(*(free_port() for _ in range(600)))"


def test_processes_never_draw_the_same_port() -> None:
    own = [free_port() for _ in range(300)]
    others = subprocess.run(
        [sys.executable, "-c", _DRAW_MANY], check=True, capture_output=True, text=True
    )
    drawn = own + [int(port) for port in others.stdout.split()]
    assert len(set(drawn)) == len(drawn) == 900
