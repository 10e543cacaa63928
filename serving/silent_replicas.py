"""Sees to a model's replicas from outside: tells the gateway of them, and ends silent ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from serving.flow_reader import FlowReader
from serving.publisher import ModelStore, Publisher
from serving.record import model_record_json
from serving.replica_calls import kill_replica
from serving.settings import ServingSettings
from serving.silence_watch import SilenceWatch

_log = logging.getLogger(__name__)


class ModelKeeper:
    """Publishes once a second while it is entered. `wanted` is set by whoever knows it."""

    def __init__(self, settings: ServingSettings) -> None:
        flow_url, model = settings.flow_url.get_secret_value(), settings.served_name
        self.wanted = settings.replicas
        self._settings = settings
        self._facts: Mapping[str, Any] | None = None
        self._silence = SilenceWatch()
        self._given_up = False
        self._reader = FlowReader(flow_url, model=model)
        self._publisher = Publisher(ModelStore(flow_url, model=model), self._record)

    def give_up(self) -> None:
        """Nobody sees to the model any more: it could not be started."""
        self._given_up = True

    def _record(self) -> str | None:
        """In the publisher's thread. Raises redis.RedisError."""
        if self._given_up:
            return None
        replicas = self._reader.look().replicas
        if running := [each for each in replicas if each["state"] == "running"]:
            self._facts = running[0]
        ports = {urlsplit(each["url"]).port or 0 for each in replicas if each["url"]}
        for port in self._silence.look(ports, time.monotonic()):
            if kill_replica(self._settings, port):
                _log.error("the replica at port %d fell silent and was killed", port)
        return model_record_json(
            replicas_wanted=self.wanted,
            replicas_max=self._settings.most_replicas,
            adapters=tuple(self._settings.lora_modules),
            facts=self._facts,
        )

    def __enter__(self) -> Self:
        self._publisher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._publisher.stop()
        self._reader.close()
