"""What a killed run leaves behind is found and ended, and nothing else."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import psutil
import pytest

from serving import processes
from serving.environment import RUN_MARK
from serving.errors import SettingsConflict

pytestmark = pytest.mark.integration

SLEEPER = "import sys, time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER


class Sleepers:
    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def __call__(
        self,
        *arguments: str,
        code: str = SLEEPER,
        log: Path = Path(os.devnull),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> int:
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                env=os.environ | environment,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        self.started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        return process.pid


@pytest.fixture
def sleeper() -> Iterator[Sleepers]:
    sleepers = Sleepers()
    yield sleepers
    for process in sleepers.started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def dead_run(tmp_path: Path) -> tuple[Path, Path]:
    """The home and the folder of a run whose process is gone."""
    home, folder = tmp_path / "home", tmp_path / "floodgate-run"
    folder.mkdir()
    processes.write_note(home, folder)
    note = home / "serving-run.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"pid_created_at": 1.0}))
    return home, folder


def test_the_first_run_has_nothing_to_end(tmp_path: Path) -> None:
    assert processes.end_leftovers(tmp_path / "new") == 0


def test_ends_what_carries_the_folder_and_nothing_else(
    dead_run: tuple[Path, Path], sleeper: Sleepers
) -> None:
    home, folder = dead_run
    by_argument = sleeper(f"--log_dir={folder}/ray")
    by_environment = sleeper(environment={RUN_MARK: str(folder)})
    by_log = sleeper(log=folder / "agent.log")
    stubborn = sleeper(code=STUBBORN, environment={RUN_MARK: str(folder)})
    bystander = sleeper("floodgate", environment={RUN_MARK: "/tmp/floodgate-other"})
    assert processes.end_leftovers(home) == 4
    for pid in (by_argument, by_environment, by_log, stubborn):
        assert not psutil.pid_exists(pid)
    assert psutil.pid_exists(bystander)
    assert not folder.exists()
    assert processes.read_note(home) is None


def test_a_run_that_is_alive_is_left_alone(tmp_path: Path) -> None:
    processes.write_note(tmp_path, tmp_path / "run")
    with pytest.raises(SettingsConflict, match=str(os.getpid())):
        processes.end_leftovers(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"folder": "/x"}'])
def test_a_damaged_note_is_no_note(tmp_path: Path, content: str) -> None:
    (tmp_path / "serving-run.json").write_text(content)
    assert processes.end_leftovers(tmp_path) == 0
