"""A waitlist for a bench: ledger and flow on one core, one gateway worker on another.

There is no engine: nobody who waits asks one.
"""

import csv
import http.client
import json
import secrets
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from loadtests.clients import http_probe
from loadtests.errors import MeasurementError, ProcessFailedError
from loadtests.stack.floodgate_process import run_floodgate, start_gateway_process
from loadtests.stack.redis_pair import RedisPair

GATEWAY_CORE = 0
LOAD_CORE = 1
# A million people take one to two minutes.
IMPORT_S_MAX = 600.0
RELEASE_S_MAX = 120.0
MAILS_S_MAX = 120.0


class WaitlistStack:
    """Everything at work; leaving it stops everything."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        """Start all. `settings` are more of the gateway's, by their names in the environment.

        Raises:
            BenchError: something did not start.
        """
        self.folder = folder
        self._exits = ExitStack()
        try:
            self.redis = self._exits.enter_context(RedisPair(folder / "redis", core=LOAD_CORE))
            self.env = self._environment(folder) | dict(settings or {})
            self.url, self.gateway = start_gateway_process(
                folder, self.env, core=GATEWAY_CORE, ready_path="/healthz"
            )
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

    def import_people(self, first: int, count: int) -> float:
        """Add so many by the command; returns the seconds that it took, its own start included.

        Raises:
            BenchError: it failed, or did not add everybody.
        """
        file = self.folder / f"people-{first}.csv"
        write_people(file, first, count)
        began_s = time.monotonic()
        said = run_floodgate(["waitlist", "import", str(file)], self.env, IMPORT_S_MAX)
        taken_s = time.monotonic() - began_s
        file.unlink()
        if f" {count} people added" not in said:
            raise MeasurementError(f"import of {count} people: {said}")
        return taken_s

    def join(self, email: str, connection: http.client.HTTPConnection) -> str:
        """Join by HTTP and return the ticket. Raises MeasurementError when it is refused."""
        body = json.dumps({"email": email})
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/waitlist/join", body=body, headers=headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != 201:
            raise MeasurementError(f"joining answered {response.status}: {content[:300]!r}")
        return str(json.loads(content)["ticket"])

    def join_many(self, name: str, count: int) -> list[str]:
        """Tickets of so many new people, who join one after the other."""
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)) as client:
            return [self.join(email_of(name, number), client) for number in range(count)]

    def release_by_command(self, count: int) -> float:
        """Let so many in; returns the seconds of the command, its own start included."""
        arguments = ["waitlist", "release", str(count), "--json"]
        began_s = time.monotonic()
        said = run_floodgate(arguments, self.env, RELEASE_S_MAX)
        taken_s = time.monotonic() - began_s
        require_released(json.loads(said), count)
        return taken_s

    def operator_key(self) -> str:
        """A new operator's key for the admin API."""
        return run_floodgate(["admins", "add", "bench", "--role", "operator"], self.env).strip()

    def release_by_api(self, count: int, admin_key: str) -> float:
        """Let so many in; returns the seconds of the call."""
        began_s = time.monotonic()
        answer = http_probe.call(
            "POST",
            f"{self.url}/admin/releases",
            headers={"Authorization": f"Bearer {admin_key}", "Content-Type": "application/json"},
            body=json.dumps({"count": count}).encode(),
            timeout_s=RELEASE_S_MAX,
        )
        taken_s = time.monotonic() - began_s
        if answer.status != 201:
            raise MeasurementError(f"releasing answered {answer.status}: {answer.body[:300]!r}")
        require_released(answer.json(), count)
        return taken_s

    def wait_for_mails(self) -> None:
        """Until the gateway has handed over what a release left to it.

        Raises:
            ProcessFailedError: it does not get done.
        """
        give_up_at_s = time.monotonic() + MAILS_S_MAX
        while time.monotonic() < give_up_at_s:
            said = json.loads(run_floodgate(["waitlist", "status", "--json"], self.env))
            if said["mails_waiting"] == 0:
                return
            self.gateway.wait_while_running(0.5)
        raise ProcessFailedError(f"mails still wait after {MAILS_S_MAX:.0f} s")

    def _environment(self, folder: Path) -> dict[str, str]:
        return {
            "FLOODGATE_LEDGER_URL": self.redis.ledger_url,
            "FLOODGATE_FLOW_URL": self.redis.flow_url,
            "FLOODGATE_HOST": "127.0.0.1",
            "FLOODGATE_HOME": str(folder / "home"),
            "FLOODGATE_WAITLIST_SECRET": secrets.token_hex(32),
            "FLOODGATE_JOIN_PROOF_COST": "0",
            # All callers of a bench are of one network.
            "FLOODGATE_JOINS_PER_NETWORK_HOUR": "100000000",
            "FLOODGATE_LOG_FORMAT": "json",
        }


def email_of(name: str, number: int) -> str:
    """An address of 25 characters, where the name has six of them."""
    return f"{name}.{number:06d}@example.com"


def write_people(file: Path, first: int, count: int) -> None:
    """A CSV of people who asked on the first day of 2026, as `waitlist import` reads it."""
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(("email", "joined_at"))
        rows.writerows(
            (email_of("person", number), "1767225600000") for number in range(first, first + count)
        )


def require_released(batch: Mapping[str, Any], count: int) -> None:
    """Raise MeasurementError unless the whole batch was let in."""
    if batch.get("released") != count or batch.get("state") != "done":
        raise MeasurementError(f"{count} people were to be let in: {batch}")
