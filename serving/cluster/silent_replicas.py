"""Ends replicas of this machine that have fallen silent, so that Ray starts others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from serving.cluster.replica_calls import kill_replica
from serving.cluster.silence_watch import SilenceWatch
from serving.flow.flow_reader import FlowReader
from serving.settings import ServingSettings

_log = logging.getLogger(__name__)


class SilentReplicas:
    """Looks after one model's replicas, as they publish themselves."""

    def __init__(
        self, settings: ServingSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._silence = SilenceWatch()
        self._reader = FlowReader(settings.flow_url.get_secret_value(), model=settings.served_name)

    def end(self) -> None:
        """Kill those that are silent; nothing while the flow Redis does not answer.

        To be called once a second. Returns within two Redis deadlines.
        """
        try:
            replicas = self._reader.look().replicas
        except RedisError:
            return
        ports = {urlsplit(each["url"]).port or 0 for each in replicas if each["url"]}
        for port in self._silence.look(ports, self._clock()):
            if kill_replica(self._settings, port):
                _log.error("the replica at port %d fell silent and was killed", port)
