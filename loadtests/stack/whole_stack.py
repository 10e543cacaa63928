"""A whole Floodgate for a load test: two Redis servers, the engine simulator, gateway processes."""

import json
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loadtests.accounts import Account
from loadtests.clients import http_probe
from loadtests.process import Process
from loadtests.stack.floodgate_process import start_gateway_process
from loadtests.stack.new_accounts import make_accounts
from loadtests.stack.redis_pair import RedisPair
from loadtests.stack.simulator_process import SimulatorProcess

MODEL = "simulated"
MEMORY_PERIOD_S = 1.0


def plan_of(**changes: Any) -> dict[str, Any]:
    """A plan in which nothing but the line bounds anybody; `changes` are fields of a plan."""
    plan: dict[str, Any] = {
        "requests_per_minute": 10_000_000,
        "tokens_per_minute": 50_000_000,
        "concurrent_requests": 1_000,
        "waiting_requests": 16,
        "weight": 1,
        "output_tokens_max": 4096,
        "output_tokens_default": 256,
    }
    return plan | changes


@dataclass(frozen=True)
class StackPlan:
    """How large, and with which plans and settings."""

    plans: Mapping[str, Mapping[str, Any]]
    profile: str = "moss-16b-a100-assumed"
    replicas: int = 2
    slots_per_replica: int = 32
    speed: float = 1.0
    workers: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    """More settings of the gateway, by their names in the environment."""

    @property
    def slots(self) -> int:
        """Requests that run at once."""
        return self.replicas * self.slots_per_replica


class Stack:
    """Everything at work; leaving it stops everything."""

    def __init__(self, plan: StackPlan, folder: Path) -> None:
        """Start all and wait until the gateway is ready.

        Raises:
            BenchError: something did not start.
        """
        self.plan = plan
        self._exits = ExitStack()
        try:
            self.redis = self._exits.enter_context(RedisPair(folder / "redis"))
            self.simulator = self._exits.enter_context(
                SimulatorProcess(
                    folder,
                    profile=plan.profile,
                    replicas=plan.replicas,
                    model=MODEL,
                    slots=plan.slots_per_replica,
                    speed=plan.speed,
                    flow_url=self.redis.flow_url,
                )
            )
            self._env = self._environment(folder)
            self.url, self.gateway = start_gateway_process(folder, self._env, workers=plan.workers)
            self._exits.enter_context(self.gateway)
        except BaseException:
            self._exits.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.close()

    def accounts(self, counts: Mapping[str, int]) -> list[Account]:
        """Fresh accounts of each plan, from codes."""
        return make_accounts(self.url, counts, self._env)

    def metric(self, name: str) -> float:
        """The sum over a gateway metric's samples; 0.0 where there is none."""
        text = http_probe.call("GET", f"{self.url}/metrics").body.decode()
        return sum(value for _, value in samples_of(text, name))

    def _environment(self, folder: Path) -> dict[str, str]:
        plans_file = folder / "plans.yaml"
        # JSON is YAML.
        plans_file.write_text(json.dumps(self.plan.plans, indent=1))
        return {
            "FLOODGATE_LEDGER_URL": self.redis.ledger_url,
            "FLOODGATE_FLOW_URL": self.redis.flow_url,
            "FLOODGATE_PLANS_FILE": str(plans_file),
            "FLOODGATE_HOST": "127.0.0.1",
            "FLOODGATE_HOME": str(folder / "home"),
            "FLOODGATE_LOG_FORMAT": "json",
            **self.plan.settings,
        }


def samples_of(metrics: str, name: str) -> list[tuple[str, float]]:
    """The samples of one metric in Prometheus's text: labels and value."""
    found = []
    for line in metrics.splitlines():
        head, _, value = line.rpartition(" ")
        if head == name or head.startswith(name + "{"):
            found.append((head[len(name) :], float(value)))
    return found


class MemoryWatch:
    """Samples the largest process of a tree once a second, in a thread of its own."""

    def __init__(self, process: Process) -> None:
        self.samples: list[tuple[float, int]] = []
        self._process = process
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._stopped.wait(MEMORY_PERIOD_S):
            self.samples.append((time.time(), self._process.usage().rss_bytes_largest))
