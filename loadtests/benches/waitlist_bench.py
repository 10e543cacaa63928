"""The waitlist with a million people: what each costs, how fast it answers, how people get in.

A ledger Redis that syncs every write, one gateway worker, and the `floodgate` command, all real.
Goals are those of a full run; a quick one only shows that everything works.
"""

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from loadtests.benches.waitlist_load import OpenLoopLoad, WaitlistLoad
from loadtests.benches.waitlist_stack import WaitlistStack
from loadtests.benches.waitlist_tables import tables
from loadtests.probes.disk_probe import file_system_of, probe_disk
from loadtests.probes.ledger_gauge import LedgerGauge
from loadtests.probes.machine import load_average
from loadtests.results.report import Recorder, Table

REWRITE_S_MAX = 120.0


@dataclass(frozen=True)
class WaitlistPlan:
    """How many people, and how long each part is measured."""

    people: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """In line after each import."""
    tickets: int = 2_000
    rate_per_s: float = 500.0
    run_s: float = 20.0
    rounds: int = 3
    released: int = 10_000
    watch_s: float = 12.0
    watchers_per_s: float = 100.0
    """Statuses asked for during a release."""
    pending: int = 20_000
    """People at the head of the line who have not confirmed, of the second ledger."""
    disk_writes: int = 2_000
    unavailable_share_max: float = 0.0
    """Of the statuses: on a busy machine the ledger misses the gateway's two seconds at times."""

    def quick(self) -> "WaitlistPlan":
        """Enough to see that it works, not for figures."""
        return replace(
            self,
            people=(5_000, 20_000),
            tickets=500,
            run_s=5.0,
            rounds=1,
            released=2_000,
            watch_s=6.0,
            pending=1_000,
        )


def run_waitlist_bench(plan: WaitlistPlan, recorder: Recorder) -> list[Table]:
    """One ledger for cost, rates and releases; another one with pending people at its head.

    Raises:
        BenchError: something did not start, or callers were refused.
    """
    recorder.fact("waitlist_plan", asdict(plan))
    with tempfile.TemporaryDirectory(prefix="floodgate-waitlist-") as name:
        folder = Path(name)
        recorder.fact("file_system", file_system_of(folder, Path("/proc/mounts").read_text()))
        with WaitlistStack(folder / "waiting") as stack:
            WaitlistBench(stack, plan, recorder).run()
        with quiet_mail_server() as smtp_url:
            settings = {"FLOODGATE_SMTP_URL": smtp_url}
            with WaitlistStack(folder / "pending", settings) as stack:
                WaitlistBench(stack, plan, recorder).run_with_pending()
    return tables(recorder)


class WaitlistBench:
    """The parts of the bench on one stack."""

    def __init__(self, stack: WaitlistStack, plan: WaitlistPlan, recorder: Recorder) -> None:
        self._stack = stack
        self._plan = plan
        self._recorder = recorder

    def run(self) -> None:
        """What people cost, how fast joins and statuses are, and letting people in."""
        with LedgerGauge(self._stack.redis.ledger_url) as ledger:
            self._recorder.fact("redis_version", ledger.version())
            self._grow(ledger)
            load = self._load(self._plan.tickets)
            for number in range(self._plan.rounds):
                self._measure_rates(ledger, load, number)
            self._release_all(ledger, load)

    def run_with_pending(self) -> None:
        """Letting people in past many who have not confirmed."""
        plan = self._plan
        seconds = plan.pending / plan.rate_per_s
        with LedgerGauge(self._stack.redis.ledger_url) as ledger:
            load = self._load(100)
            load.joins("absent", OpenLoopLoad(plan.rate_per_s, seconds, warm_up_s=0.0))
            self._stack.import_people(0, plan.people[-1])
            for number in range(plan.rounds):
                self._watch("pending", ledger, load, number)

    def _load(self, tickets: int) -> WaitlistLoad:
        return WaitlistLoad(
            self._stack,
            self._stack.join_many("ticket", tickets),
            unavailable_share_max=self._plan.unavailable_share_max,
        )

    def _grow(self, ledger: LedgerGauge) -> None:
        empty_bytes, before = ledger.used_bytes(), 0
        for people in self._plan.people:
            import_s = self._stack.import_people(before, people - before)
            memory = ledger.people_memory(empty_bytes)
            self._recorder.add(
                kind="growth",
                people=people,
                imported=people - before,
                import_s=import_s,
                bytes_each=memory.each(memory.total_bytes),
                row_each=memory.each(memory.row_bytes),
                row_counted_each=memory.each(memory.row_counted_bytes),
                line_each=memory.each(memory.line_bytes),
                index_each=memory.each(memory.index_bytes),
                audit_bytes=memory.audit_bytes,
            )
            before = people

    def _measure_rates(self, ledger: LedgerGauge, load: WaitlistLoad, number: int) -> None:
        plan = self._plan
        self._let_disk_settle(ledger)
        self._recorder.add(
            kind="disk", round=number, **asdict(probe_disk(self._stack.folder, plan.disk_writes))
        )
        at_rate = OpenLoopLoad(plan.rate_per_s, plan.run_s)
        for call in ("join", "status"):
            load_before = load_average()
            scripts, used_bytes = ledger.scripts(), ledger.used_bytes()
            usage = self._stack.gateway.usage()
            if call == "join":
                figures = load.joins(f"join{number:02d}", at_rate)
            else:
                figures = load.statuses(at_rate)
            used_s = self._stack.gateway.usage().cpu_s - usage.cpu_s
            self._recorder.add(
                kind="rate",
                state=call,
                round=number,
                in_line=ledger.in_line(),
                script_us=ledger.scripts().since(scripts).us_each,
                gateway_us=1e6 * used_s / at_rate.requests,
                bytes_each=(ledger.used_bytes() - used_bytes) / at_rate.requests,
                is_rewriting=ledger.is_rewriting(),
                load_average_before=load_before,
                **figures,
            )

    def _release_all(self, ledger: LedgerGauge, load: WaitlistLoad) -> None:
        self._let_disk_settle(ledger)
        admin_key = self._stack.operator_key()
        for number in range(self._plan.rounds):
            for how in ("nobody", "command", "api"):
                self._watch(how, ledger, load, number, admin_key)
                self._stack.wait_for_mails()

    def _watch(
        self, how: str, ledger: LedgerGauge, load: WaitlistLoad, number: int, admin_key: str = ""
    ) -> None:
        plan = self._plan

        def work() -> float | None:
            if how == "nobody":
                return None
            if how == "api":
                return self._stack.release_by_api(plan.released, admin_key)
            return self._stack.release_by_command(plan.released)

        self._let_disk_settle(ledger)
        began_s = time.time()
        scripts, audit_bytes = ledger.scripts(), ledger.audit_bytes()
        in_line = ledger.in_line()
        found: dict[str, Any] = load.watched(plan.watch_s, plan.watchers_per_s, work)
        self._recorder.add(
            kind="release",
            state=how,
            round=number,
            in_line=in_line,
            slowest_command_ms=ledger.slowest_ms(began_s),
            script_us=ledger.scripts().since(scripts).us_each,
            audit_bytes=ledger.audit_bytes() - audit_bytes,
            is_rewriting=ledger.is_rewriting(),
            **found,
        )

    def _let_disk_settle(self, ledger: LedgerGauge) -> None:
        """What the import left to be written would be measured with what comes after it.

        That is the append-only file, which Redis writes anew as it grows, and the pages of it
        that the kernel still holds.
        """
        give_up_at_s = time.monotonic() + REWRITE_S_MAX
        while ledger.is_rewriting() and time.monotonic() < give_up_at_s:
            self._stack.gateway.wait_while_running(0.2)
        os.sync()


@contextmanager
def quiet_mail_server() -> Iterator[str]:
    """The URL of a mail server that takes connections and says nothing: no mail gets anywhere.

    With one set up, whoever joins is pending; that it is silent keeps delivery from being busy.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"smtp://127.0.0.1:{listener.getsockname()[1]}"
