"""Ends replicas of this machine that have fallen silent, so that Ray starts others.

A replica process that was stopped, or that hangs as a whole, can neither act by itself nor answer
Ray, whose health check takes half a minute to give up; its record is gone within five seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psutil
from redis.exceptions import RedisError

from serving import processes
from serving.cluster.absence import AbsenceWatch
from serving.cluster.replica_calls import Address, replica_process, replica_state
from serving.flow.flow_reader import FlowReader
from serving.settings import ServingSettings

# A record lives for 5 s; a process that is starved of its processor for 10 more serves nobody.
SILENT_S_MAX = 15.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Heard:
    """A replica that has published itself; `process` where it is one of this machine."""

    address: Address
    process: psutil.Process | None


class SilentReplicas:
    """Looks after one model's replicas, as they publish themselves."""

    def __init__(
        self, settings: ServingSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._watch = AbsenceWatch(SILENT_S_MAX)
        self._heard: dict[str, _Heard] = {}  # by the replica's id: another may get its port
        self._reader = FlowReader(settings.flow_url.get_secret_value(), model=settings.served_name)

    def end(self) -> None:
        """Kill those that are silent; nothing while the flow Redis does not answer.

        To be called once a second. Returns within two Redis deadlines, and one call of each that
        is silent.
        """
        try:
            replicas = self._reader.look().replicas
        except RedisError:
            return
        self._note(replicas)
        published = {each["replica_id"] for each in replicas}
        for replica_id in self._watch.look(published & self._heard.keys(), self._clock()):
            process = self._heard[replica_id].process
            if process is not None and process.is_running():
                if replica_state(self._settings, self._heard[replica_id].address) is not None:
                    continue  # it serves, and only its records do not come
                processes.kill_family(process.pid)
                _log.error("replica %s fell silent and was killed", replica_id)
            self._watch.forget(replica_id)
            del self._heard[replica_id]

    def _note(self, replicas: tuple[dict[str, Any], ...]) -> None:
        for each in replicas:
            heard = self._heard.get(each["replica_id"])
            # Looked for as long as it publishes and was not found: a look can fail.
            if each["url"] and (heard is None or heard.process is None):
                url = urlsplit(each["url"])
                address = (url.hostname or "", url.port or 0)
                process = replica_process(self._settings, address[1])
                self._heard[each["replica_id"]] = _Heard(address, process)
