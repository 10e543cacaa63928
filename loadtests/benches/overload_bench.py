"""Overload: what is left of goodput and fairness at 20 times the capacity, and weighted shares.

The spike of `loadtests.spike`, and a run in which accounts of three weights are all backlogged.
Engines are simulated; gateway, Redis and load are real and share the machine.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from loadtests.accounts import Account
from loadtests.crowd.chat_record import ChatRecord
from loadtests.crowd.locust_run import run_locust
from loadtests.errors import MeasurementError
from loadtests.results.fairness import service_by_account, share_errors
from loadtests.results.report import Recorder, Table, verdict
from loadtests.results.slo import SPIKE_SLO, checks, load_slo
from loadtests.results.spike_figures import is_backlogged
from loadtests.spike import SpikePlan, run_spike, spike_stack
from loadtests.spike import tables as spike_tables
from loadtests.stack.whole_stack import Stack, StackPlan, plan_of

SHARE_ERROR_MAX = 0.02
# The first callers take all slots at once, whatever their weight; the line has made up for it
# after some 20 s.
RISE_S = 30.0
WEIGHTS: Mapping[str, int] = {"free": 1, "plus": 2, "staff": 4}


@dataclass(frozen=True)
class SharesPlan:
    """The run with weights: so many accounts of each plan, each with so many callers."""

    accounts_per_plan: int = 3
    callers_per_account: int = 32
    duration_s: float = 180.0

    def stack(self) -> StackPlan:
        """The spike's engines, with a plan for each weight."""
        plans = {
            name: plan_of(weight=weight, waiting_requests=self.callers_per_account)
            for name, weight in WEIGHTS.items()
        }
        return replace(spike_stack(), plans=plans)


@dataclass(frozen=True)
class OverloadPlan:
    """Both runs."""

    spike: SpikePlan
    shares: SharesPlan

    def quick(self) -> "OverloadPlan":
        """Enough to see that it works, not for figures."""
        return OverloadPlan(
            replace(self.spike, duration_s=30.0, calm_s=20.0, sustain_s=15.0),
            replace(self.shares, duration_s=45.0),
        )


def full_plan() -> OverloadPlan:
    """What the issue asks for: 3 minutes at 20 times the capacity."""
    return OverloadPlan(SpikePlan(spike_stack()), SharesPlan())


def run_overload_bench(plan: OverloadPlan, recorder: Recorder) -> list[Table]:
    """The spike, then the shares; their tables.

    Raises:
        BenchError: something did not start, or a run cannot be trusted.
    """
    figures = run_spike(plan.spike, recorder)
    found = spike_tables(figures, list(checks(load_slo(SPIKE_SLO), figures)))
    return [*found, run_shares(plan, recorder)]


def run_shares(plan: OverloadPlan, recorder: Recorder) -> Table:
    """Accounts of weight 1, 2 and 4, all with more callers than they get slots."""
    shares = plan.shares
    stack_plan = shares.stack()
    callers = len(WEIGHTS) * shares.accounts_per_plan * shares.callers_per_account
    with tempfile.TemporaryDirectory(prefix="floodgate-shares-") as name:
        folder = Path(name)
        with Stack(stack_plan, folder) as stack:
            accounts = stack.accounts(dict.fromkeys(WEIGHTS, shares.accounts_per_plan))
            options = ["--duration-s", str(shares.duration_s)]
            options += ["--overload", str(callers / stack_plan.slots), *plan.spike.chat_options()]
            records = run_locust(
                stack.url,
                accounts,
                folder,
                scenario="shares",
                run_s=shares.duration_s,
                options=options,
            )
            stack.simulator.require_in_time()
    found = share_figures(records, accounts, shares.duration_s)
    recorder.add(kind="shares", plan=asdict(shares), **found)
    return shares_table(found)


def share_figures(
    records: Sequence[ChatRecord], accounts: Sequence[Account], duration_s: float
) -> dict[str, Any]:
    """Served tokens by plan and account in the steady part of the run.

    Raises:
        MeasurementError: an account was not backlogged throughout.
    """
    began_s = min(record.sent_at_s for record in records)
    longest_s = max(record.end_s for record in records if record.outcome == "whole")
    since_s = began_s + min(RISE_S, 0.4 * duration_s)
    until_s = began_s + duration_s - min(longest_s, 0.4 * duration_s)
    idle = [
        account.account
        for account in accounts
        if not is_backlogged(records, account.account, since_s, until_s)
    ]
    if idle:
        raise MeasurementError(f"not in line throughout: {', '.join(idle)}")
    by_account = service_by_account(records, since_s, until_s)
    by_plan: dict[str, float] = dict.fromkeys(WEIGHTS, 0.0)
    for account in accounts:
        by_plan[account.plan] += by_account.get(account.account, 0.0)
    return {
        "by_account": by_account,
        "by_plan": by_plan,
        "shares": share_errors(by_plan, WEIGHTS),
        "window_s": until_s - since_s,
    }


def shares_table(found: Mapping[str, Any]) -> Table:
    """Each plan's share of what was served against its weight's."""
    rows = []
    for plan, (got, due, error) in found["shares"].items():
        rows.append(
            (
                f"{plan}, weight {WEIGHTS[plan]}",
                f"{found['by_plan'][plan]:,.0f}",
                f"{got:.2%}",
                f"{due:.2%}",
                f"{error:+.2%}",
                f"± {SHARE_ERROR_MAX:.0%}",
                verdict(abs(error), at_most=SHARE_ERROR_MAX),
            )
        )
    return Table(
        "Shares of backlogged accounts by weight",
        ("plan", "tokens served", "share", "by weight", "error", "goal", "verdict"),
        rows,
        notes=(f"prompt and answer tokens of {found['window_s']:.0f} s",),
    )
