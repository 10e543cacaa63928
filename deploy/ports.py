"""Ports: whether one is free, who has it, and finding a free one on loopback."""

import socket
from typing import Final

import psutil

from deploy.errors import PortTaken

LOOPBACK: Final = "127.0.0.1"


def check_port(host: str, port: int) -> None:
    """Raises PortTaken, naming the holder where the system tells, when `port` cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the gateway itself binds: connections that just closed do not keep a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(
                f"Cannot listen on {host}:{port}: {error.strerror}{_holder(port)}.",
                "End that program, or choose another port: --port or FLOODGATE_PORT.",
            ) from error


def free_port() -> int:
    """A port on loopback that nobody listens on now; somebody may before it is used."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _holder(port: int) -> str:
    """`, held by nginx (process 7)`, or nothing where this user may not know."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.pid:
                continue
            if connection.laddr and connection.laddr.port == port:
                name = psutil.Process(connection.pid).name()
                return f", held by {name} (process {connection.pid})"
    except psutil.Error:
        pass
    return ""
