"""The processes of a run: finding what is left of one, and ending it.

When this process is killed with -9, two agents of Ray outlive it. They are known by the run's
folder, which stands in their command line or environment or holds the logs that they have open,
and never by a name that others may bear.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from serving.environment import RUN_MARK
from serving.errors import SettingsConflict

_NOTE = "serving-run.json"


@dataclass(frozen=True, slots=True)
class RunNote:
    """What a run writes down about itself, so that the next one can clean up after it."""

    folder: Path
    pid: int
    pid_created_at: float

    def alive(self) -> bool:
        """Whether the process that wrote the note still runs."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.pid_created_at) < 1 and process.is_running()
        except psutil.NoSuchProcess:
            return False


def write_note(home: Path, folder: Path) -> None:
    """Note this process's run under `home`."""
    home.mkdir(parents=True, exist_ok=True)
    note = {
        "folder": str(folder),
        "pid": os.getpid(),
        "pid_created_at": psutil.Process().create_time(),
    }
    (home / _NOTE).write_text(json.dumps(note), encoding="utf-8")


def drop_note(home: Path) -> None:
    """Forget the run."""
    (home / _NOTE).unlink(missing_ok=True)


def read_note(home: Path) -> RunNote | None:
    """The last run that did not end cleanly, or that still runs; None if there is none."""
    try:
        note = json.loads((home / _NOTE).read_text(encoding="utf-8"))
        return RunNote(Path(note["folder"]), int(note["pid"]), float(note["pid_created_at"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def end_leftovers(home: Path) -> int:
    """End what a killed run left behind; the number of processes that were ended.

    Raises SettingsConflict if that run is still alive.
    """
    note = read_note(home)
    if note is None:
        return 0
    if note.alive():
        raise SettingsConflict(
            f"Serving already runs here (process {note.pid}). Stop it, or set FLOODGATE_HOME."
        )
    ended = end(processes_of(note.folder))
    shutil.rmtree(note.folder, ignore_errors=True)
    drop_note(home)
    return ended


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes other than this one that carry the run's folder."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _belongs(process, str(folder))
    ]


def descendants() -> list[psutil.Process]:
    """All processes that this one started, and they in turn."""
    return psutil.Process().children(recursive=True)


def kill_family(pid: int) -> None:
    """Kill a process and all that it started, at once."""
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in [*parent.children(recursive=True), parent]:
            with contextlib.suppress(psutil.Error):
                process.kill()


def end(processes: Iterable[psutil.Process], *, grace_s: float = 1.0) -> int:
    """Terminate, then kill after `grace_s`; the number that had to be ended."""
    left = [process for process in processes if process.is_running()]
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=grace_s)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=grace_s)
    return len(left)


def _belongs(process: psutil.Process, folder: str) -> bool:
    try:
        if any(folder in argument for argument in process.cmdline()):
            return True
        if process.environ().get(RUN_MARK) == folder:
            return True
        # Ray's and vLLM's processes write their title over both, but keep their logs open.
        return any(file.path.startswith(f"{folder}/") for file in process.open_files())
    except psutil.Error:
        return False
