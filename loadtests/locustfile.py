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
    """The options of a run, also on the web page's form."""
    group = parser.add_argument_group("Floodgate")
    group.add_argument("--scenario", choices=list(SCENARIOS), default="spike")
    group.add_argument("--keys-file", default="build/bench/keys.jsonl")
    group.add_argument("--model", default="simulated")
    group.add_argument("--slots", type=int, default=64, help="requests that the engines run")
    group.add_argument("--overload", type=float, default=20.0)
    group.add_argument("--duration-s", type=float, default=180.0)
    group.add_argument("--calm-s", type=float, default=15.0)
    group.add_argument(
        "--capacity-per-s",
        type=float,
        default=10.0,
        help="chats a second that the engines sustain; the crowd sends overload times as many",
    )
    group.add_argument("--greedy-connections", type=int, default=100)
    group.add_argument("--patience-s", type=float, default=5.0)
    group.add_argument("--prompt-words", type=int, default=24)
    group.add_argument("--output-tokens", type=int, default=64)
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--chats-file", default="", help="log of all chats, JSON lines")


@events.init.add_listener
def prepare(environment: Any, **_: Any) -> None:
    """Read the keys; users find what they share in the environment."""
    options = environment.parsed_options
    scale = Scale(
        slots=options.slots,
        overload=options.overload,
        duration_s=options.duration_s,
        calm_s=options.calm_s,
        greedy_connections=options.greedy_connections,
    )
    try:
        accounts = read_accounts(Path(options.keys_file))
    except BenchError as error:
        sys.exit(
            f"{error}. "
            f"Make one with `python -m loadtests.stack.new_accounts {options.host or 'URL'}`."
        )
    environment.load_run = LoadRun(
        accounts,
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
