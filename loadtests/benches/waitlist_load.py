"""Load on a waitlist: joins and statuses at a constant rate, and who watches a release.

The clients are processes of their own on the core of the Redis servers.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.benches.waitlist_stack import LOAD_CORE, WaitlistStack, email_of
from loadtests.errors import MeasurementError

CLIENT_ENDS_S_MAX = 120.0
# Clients import and connect before their first request is due.
CLIENT_START_S = 1.5


@dataclass(frozen=True)
class OpenLoopLoad:
    """How many a second, for how long."""

    rate_per_s: float
    run_s: float
    warm_up_s: float = 2.0

    @property
    def requests(self) -> int:
        """All that is sent."""
        return round(self.rate_per_s * (self.run_s + self.warm_up_s)) + 1

    def arguments(self) -> list[str]:
        """For `loadtests.clients.open_loop`."""
        return [
            *("--rate-per-s", str(self.rate_per_s), "--duration-s", str(self.run_s)),
            *("--warm-up-s", str(self.warm_up_s)),
        ]


class WaitlistLoad:
    """Loads on one stack, with the tickets that statuses ask for."""

    def __init__(
        self, stack: WaitlistStack, tickets: Sequence[str], *, unavailable_share_max: float = 0.0
    ) -> None:
        """More statuses than this share answered with 503 are no figures."""
        self._stack = stack
        self._unavailable_share_max = unavailable_share_max
        self._targets = stack.folder / "statuses.txt"
        lines = (f"/waitlist/status?ticket={ticket}\n" for ticket in tickets)
        self._targets.write_text("".join(lines))

    def joins(self, name: str, load: OpenLoopLoad) -> dict[str, Any]:
        """Everybody with an address of its own. Raises MeasurementError when one is refused."""
        bodies = self._stack.folder / f"{name}.jsonl"
        write_joins(bodies, name, load.requests)
        with _client(self._joining(bodies, load)) as wait:
            return require_answered(wait())

    def statuses(self, load: OpenLoopLoad) -> dict[str, Any]:
        """Places of the tickets in turn. Raises MeasurementError when too many are refused."""
        with _client(self._watching(load)) as wait:
            return require_answered(wait(), self._unavailable_share_max)

    def watched(
        self, watch_s: float, status_rate_per_s: float, work: Callable[[], float | None]
    ) -> dict[str, Any]:
        """Do `work` while others ask the ledger and their places; what kept them waiting.

        Raises:
            MeasurementError: too many were refused, or the work took longer than the watch.
        """
        probe = [
            sys.executable,
            "-m",
            "loadtests.probes.ledger_probe",
            self._stack.redis.ledger_url,
        ]
        probe += ["--duration-s", str(watch_s)]
        load = OpenLoopLoad(status_rate_per_s, watch_s, warm_up_s=0.0)
        with _client(probe) as pings, _client(self._watching(load)) as statuses:
            self._stack.gateway.wait_while_running(CLIENT_START_S)
            work_s = work()
            pinged = pings()
            watched = require_answered(statuses(), self._unavailable_share_max)
        if work_s is not None and work_s > watch_s - CLIENT_START_S:
            raise MeasurementError(f"watched for {watch_s:g} s what took {work_s:.1f} s")
        return {"seconds": work_s, "pings": pinged, "statuses": watched}

    def _joining(self, bodies: Path, load: OpenLoopLoad) -> list[str]:
        url = f"{self._stack.url}/waitlist/join"
        return [*_OPEN_LOOP, url, "--bodies-file", str(bodies), *load.arguments()]

    def _watching(self, load: OpenLoopLoad) -> list[str]:
        targets = ["--targets-file", str(self._targets)]
        return [*_OPEN_LOOP, self._stack.url, *targets, *load.arguments()]


_OPEN_LOOP = (sys.executable, "-m", "loadtests.clients.open_loop")


def write_joins(file: Path, name: str, count: int) -> None:
    """Bodies of joins, one a line, each with an address of its own."""
    lines = (json.dumps({"email": email_of(name, number)}) + "\n" for number in range(count))
    file.write_text("".join(lines))


def require_answered(figures: dict[str, Any], unavailable_share_max: float = 0.0) -> dict[str, Any]:
    """The figures of an open loop.

    Raises MeasurementError when not everybody was answered, but for that share that was told with
    a 503 to come again.
    """
    unavailable = figures["unavailable"]
    if figures["failed"] > unavailable or unavailable > unavailable_share_max * figures["sent"]:
        raise MeasurementError(
            f"{figures['failed']} of {figures['sent']} not answered: {figures['first_failure']}"
        )
    return figures


@contextmanager
def _client(argv: Sequence[str]) -> Iterator[Callable[[], dict[str, Any]]]:
    """A client on the load's core; yields what waits for its figures."""
    command = ["taskset", "--cpu-list", str(LOAD_CORE), *argv]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:

        def wait() -> dict[str, Any]:
            out, err = process.communicate(timeout=CLIENT_ENDS_S_MAX)
            if process.returncode != 0:
                raise MeasurementError(f"{' '.join(argv[1:4])} failed: {err[-500:]}")
            figures: dict[str, Any] = json.loads(out)
            return figures

        try:
            yield wait
        except BaseException:
            process.kill()
            raise
