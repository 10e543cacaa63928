"""`floodgate up`, started as users start it, with a home and a port of its own."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtests.benches.engine_settings import read_engine_settings
from loadtests.errors import MeasurementError
from loadtests.process import Process, free_port
from loadtests.stack.floodgate_process import PLANS_FILE, create_code, floodgate_argv, redeem
from loadtests.stack.redis_pair import wait_for_log
from loadtests.stack.target import Target

FIRST_TOKEN_S_MAX = 900.0
FIRST_TOKEN = re.compile(r"^First token after (?P<seconds>\d+\.\d) s \((?P<kind>\w+) start", re.M)
# "✓ Gateway  1.2 s" for a phase, and below "… Engine" the steps of serving, with the seconds
# since serving began: "    12.1 s  started Ray".
PHASE = re.compile(r"^✓ (?P<name>.+?)  (?P<seconds>\d+\.\d) s$")
STEP = re.compile(r"^ +(?P<seconds>\d+\.\d) s  (?P<name>.+)$")


@dataclass(frozen=True)
class Start:
    """What `floodgate up` says about its own start."""

    phases: list[tuple[str, float]]
    first_token_s: float
    is_warm: bool


@dataclass(frozen=True)
class WholePath:
    """`floodgate up` at work."""

    target: Target
    start: Start
    engine_settings: dict[str, str]

    @property
    def is_eager(self) -> bool:
        """Whether the engine runs without compiling."""
        return self.engine_settings["enforce_eager"] == "True"


def start_whole_path(
    model: Path | None,
    home: Path,
    cache: Path,
    folder: Path,
    *,
    replicas: int = 1,
    environment: Mapping[str, str] | None = None,
) -> WholePath:
    """Replicas behind the gateway, with a key; everything but `environment` at its default.

    `home` must be nobody else's: a deployment of this user's is not touched. `cache` is where
    the default model is.

    Raises:
        ProcessFailedError: something did not start.
    """
    env = {
        "FLOODGATE_HOME": str(home),
        "FLOODGATE_CACHE": str(cache),
        "FLOODGATE_PLANS_FILE": str(PLANS_FILE),
        **(environment or {}),
    }
    port = free_port()
    arguments = ["up", "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--replicas", str(replicas)]
    arguments += ["--model", str(model)] if model else []
    log_path = folder / "up.log"
    process = Process(
        "floodgate up",
        floodgate_argv(*arguments),
        log_path=log_path,
        env=env,
        # Ray's daemons leave the tree; the home in their environment tells whose they are.
        marked_by=("FLOODGATE_HOME", str(home)),
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for_log(process, "First token after", FIRST_TOKEN_S_MAX)
        start = read_start(log_path.read_text())
        key = redeem(url, create_code(env))
        engine_log = (home / "logs" / "serving.log").read_text(errors="replace")
        engine_settings = read_engine_settings(engine_log)
    except BaseException:
        process.stop()
        raise
    target = Target("whole path", url, process, {"Authorization": f"Bearer {key}"})
    return WholePath(target, start, engine_settings)


def read_start(log: str) -> Start:
    """Phases and seconds from what `floodgate up` printed.

    Raises:
        MeasurementError: it does not tell when the first token came.
    """
    told = FIRST_TOKEN.search(log)
    if told is None:
        raise MeasurementError(f"no time of the first token in:\n{log[-500:]}")
    phases = list(_phases(log.splitlines()))
    return Start(phases, float(told["seconds"]), told["kind"] == "warm")


def _phases(lines: list[str]) -> Iterator[tuple[str, float]]:
    """Phases in order; the steps of serving with their own seconds, before the phase they end."""
    step_ended_s = 0.0
    for line in lines:
        if step := STEP.match(line):
            yield f"· {step['name']}", float(step["seconds"]) - step_ended_s
            step_ended_s = float(step["seconds"])
        elif phase := PHASE.match(line):
            yield phase["name"], float(phase["seconds"])
