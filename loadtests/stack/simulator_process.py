"""The engine simulator as a process of a bench, and what its admin port tells."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.clients import http_probe
from loadtests.errors import MeasurementError, ProcessFailedError
from loadtests.process import Process

READY_S_MAX = 30.0
# A simulator that notices its steps so late measures the machine and not the gateway.
LAG_S_MAX = 1.0


def require_in_time(lag_s: float) -> None:
    """Raise MeasurementError when a simulator that lagged so much is not to be believed."""
    if lag_s > LAG_S_MAX:
        raise MeasurementError(f"the engine simulator lagged by up to {lag_s:.2f} s")


class SimulatorProcess(Process):
    """`python -m loadtests.engine_simulator` on free ports."""

    def __init__(
        self,
        folder: Path,
        *,
        profile: str,
        replicas: int = 1,
        model: str = "simulated",
        slots: int | None = None,
        speed: float = 1.0,
        flow_url: str | None = None,
        core: int | None = None,
    ) -> None:
        """Start it and wait for its ports.

        Raises:
            ProcessFailedError: it did not start.
        """
        argv = [sys.executable, "-m", "loadtests.engine_simulator", "--profile", profile]
        argv += ["--replicas", str(replicas), "--model", model, "--speed", str(speed)]
        argv += ["--slots", str(slots)] if slots else []
        argv += ["--flow-url", flow_url] if flow_url else []
        super().__init__(
            "engine simulator", argv, log_path=folder / "engine-simulator.log", core=core
        )
        try:
            ports = self._read_ports()
        except BaseException:
            self.stop()
            raise
        self.admin_url: str = ports["admin_url"]
        self.urls: list[str] = [replica["url"] for replica in ports["replicas"]]

    def stats(self) -> list[dict[str, Any]]:
        """Load and counts of each replica."""
        replicas: list[dict[str, Any]] = http_probe.call("GET", f"{self.admin_url}/stats").json()[
            "replicas"
        ]
        return replicas

    def total(self, name: str) -> float:
        """One figure of `stats`, summed over the replicas."""
        return float(sum(replica[name] for replica in self.stats()))

    def inject(self, kind: str, replicas: Sequence[int] | None = None, **options: float) -> None:
        """Give a fault command.

        Raises:
            MeasurementError: it was refused.
        """
        command = {"kind": kind, "replicas": replicas, **options}
        answer = http_probe.call(
            "POST", f"{self.admin_url}/faults", body=json.dumps(command).encode()
        )
        if answer.status != 200:
            raise MeasurementError(f"the simulator refused {command}: {answer.body!r}")

    def lag_s_max(self) -> float:
        """How late the slowest replica noticed a step so far."""
        return max(float(replica["lag_s_max"]) for replica in self.stats())

    def require_in_time(self) -> None:
        """Raise MeasurementError when the simulator was too slow to be believed."""
        require_in_time(self.lag_s_max())

    def _read_ports(self) -> dict[str, Any]:
        give_up_at_s = time.monotonic() + READY_S_MAX
        while time.monotonic() < give_up_at_s:
            for line in self.log_path.read_text(errors="replace").splitlines():
                if line.startswith('{"admin_url"'):
                    ports: dict[str, Any] = json.loads(line)
                    return ports
            self.wait_while_running(0.05)
        raise ProcessFailedError(f"{self.name} named no ports; see {self.log_path}")
