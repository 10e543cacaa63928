"""Load on a running Floodgate, with locust's web page or headless.

    python -m loadtests.stack.new_accounts http://127.0.0.1:8000 --count 17
    locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 --scenario spike --slots 64

docs/load-testing.md tells the scenarios and what the metrics mean.
"""

import sys
from pathlib import Path
from typing import Any

from locust import LoadTestShape, events

from loadtests.accounts import read_accounts
from loadtests.crowd.load_run import ChatSize, LoadRun
from loadtests.crowd.scenarios import SCENARIOS, Scale, find_scenario, stage_at
from loadtests.crowd.users import Caller
from loadtests.errors import BenchError

__all__ = ["Caller", "ScenarioShape"]

# Locust warns above 100.
SPAWN_PER_S = 100.0


class ScenarioShape(LoadTestShape):
    """Whatever the stage of the chosen scenario says."""

    def reset_time(self) -> None:
        """A run begins, with what its options are by now: the page's form may have changed them."""
        super().reset_time()
        environment = self.runner.environment
        environment.load_run = load_run_of(environment.parsed_options)

    def tick(self) -> tuple[int, float] | None:
        """Callers wanted now; None ends the run."""
        run: LoadRun = self.runner.environment.load_run
        stage = stage_at(run.scenario, self.get_run_time())
        if stage is None:
            return None
        run.roles.want(stage.users)
        return stage.user_count, SPAWN_PER_S


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    """The options of a run. The page's form has those that are not files of this machine.

    In a group of their own they would not be on the form.
    """
    add = parser.add_argument
    add("--scenario", choices=list(SCENARIOS), default="spike")
    add("--keys-file", default="build/bench/keys.jsonl", include_in_web_ui=False)
    add("--model", default="simulated")
    add("--slots", type=int, default=64, help="requests that the engines run")
    add("--overload", type=float, default=20.0)
    add("--duration-s", type=float, default=180.0)
    add("--calm-s", type=float, default=15.0)
    add(
        "--capacity-per-s",
        type=float,
        default=10.0,
        help="chats a second that the engines sustain; the crowd sends overload times as many",
    )
    add("--greedy-connections", type=int, default=100)
    add("--patience-s", type=float, default=5.0)
    add("--prompt-words", type=int, default=24)
    add("--output-tokens", type=int, default=64)
    add("--seed", type=int, default=0)
    add("--chats-file", default="", help="log of all chats, JSON lines", include_in_web_ui=False)


@events.init.add_listener
def check_keys(environment: Any, **_: Any) -> None:
    """No start without accounts."""
    options = environment.parsed_options
    try:
        read_accounts(Path(options.keys_file))
    except BenchError as error:
        sys.exit(
            f"{error}. "
            f"Make one with `python -m loadtests.stack.new_accounts {options.host or 'URL'}`."
        )


def load_run_of(options: Any) -> LoadRun:
    """What all users of a run share.

    Raises:
        BenchError: the keys file is not as it was at the start.
    """
    scale = Scale(
        slots=options.slots,
        overload=options.overload,
        duration_s=options.duration_s,
        calm_s=options.calm_s,
        greedy_connections=options.greedy_connections,
    )
    return LoadRun(
        read_accounts(Path(options.keys_file)),
        ChatSize(options.model, options.prompt_words, options.output_tokens),
        find_scenario(options.scenario, scale),
        scale,
        crowd_per_s=options.overload * options.capacity_per_s,
        patience_s=options.patience_s,
        log_path=Path(options.chats_file) if options.chats_file else None,
        seed=options.seed,
    )


@events.test_stop.add_listener
def close_log(environment: Any, **_: Any) -> None:
    """Write the rest of the log."""
    environment.load_run.close()
