"""Finding the replicas among our own processes, and calling the two paths that are not vLLM's."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil

from serving import processes
from serving.engine.replica_gate import DRAIN_PATH, SECRET_HEADER, STATE_PATH
from serving.settings import ServingSettings

Address = tuple[str, int]

# A stop has 10 s for everything.
_CALL_S_MAX = 2.0


def replica_addresses(settings: ServingSettings) -> list[Address]:
    """Host and port of each replica among the processes that this one started."""
    return [address for _, address in _listening(settings)]


def replica_process(settings: ServingSettings, port: int) -> psutil.Process | None:
    """The replica among our own processes that listens there."""
    found = (process for process, address in _listening(settings) if address[1] == port)
    return next(found, None)


def _listening(settings: ServingSettings) -> Iterator[tuple[psutil.Process, Address]]:
    for process in processes.descendants():
        try:
            connections = process.net_connections("tcp")
        except psutil.Error:
            continue
        for connection in connections:
            ip, port = connection.laddr or ("", 0)
            if connection.status == psutil.CONN_LISTEN and port in settings.replica_ports:
                yield process, (ip, port)


def replica_state(settings: ServingSettings, address: Address) -> dict[str, Any] | None:
    """What `Replica.state` says; None if the replica does not answer in time."""
    return _ask(settings, address, "GET", STATE_PATH, timeout_s=_CALL_S_MAX)


def drain_replicas(settings: ServingSettings, addresses: Sequence[Address]) -> int:
    """Have all replicas drain at once, as set; the number of requests that were cut."""
    if not addresses:
        return 0
    abort = settings.stop_in_flight == "abort"
    within_s = 0.0 if abort else settings.drain_s_max
    path = f"{DRAIN_PATH}?abort={str(abort).lower()}&within_s={within_s}"

    def drain(address: Address) -> int:
        answer = _ask(settings, address, "POST", path, timeout_s=within_s + _CALL_S_MAX)
        return int(answer["in_flight"]) if answer else 0

    with ThreadPoolExecutor(max_workers=len(addresses)) as pool:
        return sum(pool.map(drain, addresses))


def _ask(
    settings: ServingSettings, address: Address, method: str, path: str, *, timeout_s: float
) -> dict[str, Any] | None:
    connection = http.client.HTTPConnection(*address, timeout=timeout_s)
    try:
        secret = settings.engine_secret.get_secret_value()
        connection.request(method, path, headers={SECRET_HEADER: secret})
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
