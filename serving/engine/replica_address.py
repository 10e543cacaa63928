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


def address_for_others(host: str) -> str:
    """The address under which the gateway reaches a replica that listens on `host`."""
    if host != "0.0.0.0":  # noqa: S104 - compared, not bound
        return host
    import ray

    return str(ray.util.get_node_ip_address())
