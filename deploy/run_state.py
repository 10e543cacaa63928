"""What a run says about itself to other commands: run/state.json, readable by its user alone."""

import os
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from deploy.home import Home


class ProcessState(BaseModel):
    """One process that the launcher keeps alive."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    port: int | None = None
    restarts: int = 0


class RunState(BaseModel):
    """Version 1. The two URLs hold passwords."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    mark: str
    launcher_pid: int
    started_at: datetime
    phase: Literal["starting", "running", "stopping"]
    url: str
    model: str
    ledger_url: str
    flow_url: str
    # How long the launcher may take to stop.
    stop_s_max: float = 13.5
    processes: tuple[ProcessState, ...] = ()


def write_state(home: Home, state: RunState) -> None:
    """Writes at once or not at all, mode 0600."""
    new = home.state.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(state.model_dump_json(indent=1))
    new.replace(home.state)


def read_state(home: Home) -> RunState | None:
    """The state of the last run that did not end cleanly, or that still runs."""
    try:
        return RunState.model_validate_json(home.state.read_bytes())
    except (OSError, ValidationError):
        return None


def drop_state(home: Home) -> None:
    """Forgets the run."""
    home.state.unlink(missing_ok=True)
