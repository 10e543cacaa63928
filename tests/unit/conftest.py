"""Unit tests open no socket and start no Ray."""

import socket
import sys

import pytest


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that connects or listens is in the wrong suite."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unit tests open no socket; put this into tests/integration")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "bind", refuse)


@pytest.fixture(autouse=True)
def no_ray() -> None:
    ray = sys.modules.get("ray")
    assert ray is None or not ray.is_initialized(), "unit tests start no Ray"
