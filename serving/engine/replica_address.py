"""Where a replica's own HTTP server listens, whether it answers, and how others reach it."""

from __future__ import annotations

import http.client

import psutil

# Ray answers this path itself, before any check: 200 while it serves, 503 while it drains.
_HEALTH_PATH = "/-/healthz"
# A replica whose event loop does not answer for so long is not published.
_HEALTH_TIMEOUT_S = 1.5


def listening_port(ports: range) -> int | None:
    """The port of the HTTP server that Ray Serve opened in this process, if it has by now."""
    for connection in psutil.Process().net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports:
            return int(connection.laddr.port)
    return None


def health_status(host: str, port: int) -> int | None:
    """The status of Ray's health check, asked as a client would; None without an answer."""
    connection = http.client.HTTPConnection(host, port, timeout=_HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", _HEALTH_PATH)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class ReplicaAddress:
    """Where this process's replica listens on `host`, once it does on one of `ports`."""

    def __init__(self, host: str, ports: range) -> None:
        self._host = host
        self._ports = ports
        self._port: int | None = None

    def look(self) -> tuple[str, int | None]:
        """The replica's URL, empty while its port is not open, and what its health check says."""
        # Found once: a look reads all connections of the machine.
        self._port = self._port or listening_port(self._ports)
        if self._port is None:
            return "", None
        url = f"http://{address_for_others(self._host)}:{self._port}"
        return url, health_status(self._host, self._port)


def address_for_others(host: str) -> str:
    """The address under which the gateway reaches a replica that listens on `host`."""
    if host != "0.0.0.0":  # noqa: S104 - compared, not bound
        return host
    import ray

    return str(ray.util.get_node_ip_address())
