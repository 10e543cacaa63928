"""Keeping processes alive: each that ends by itself is started again, later each time."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from deploy.launcher.child import Child, ChildPlan
from deploy.run_state import ProcessState

# The first restart is at once enough for a Redis to be back within a second of its death; the
# last is rare enough that a process which cannot start does not fill the log.
BACKOFF_S_MIN = 0.25
BACKOFF_S_MAX = 30.0
# After this long alive a death is a new one, and not the last one's sequel.
_HEALTHY_S = 60.0


@dataclass
class _Kept:
    plan: ChildPlan
    child: Child
    started_at: float
    restarts: int = 0
    backoff_s: float = BACKOFF_S_MIN
    restart_at: float | None = field(default=None)


class Supervisor:
    """Processes in the order of their start; stopped in the order that the caller gives."""

    def __init__(
        self, on_event: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._on_event = on_event
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    def start(self, plan: ChildPlan) -> Child:
        """Starts a process and keeps it from now on."""
        child = Child(plan)
        self._kept[plan.name] = _Kept(plan, child, self._clock())
        return child

    def child(self, name: str) -> Child:
        """The process of that name as it runs now."""
        return self._kept[name].child

    def check(self) -> bool:
        """Restarts what has ended and is due. True when anything changed. Never waits."""
        changed = [self._check(kept) for kept in self._kept.values()]
        return any(changed)

    def _check(self, kept: _Kept) -> bool:
        now = self._clock()
        if kept.restart_at is None:
            status = kept.child.exit_status()
            if status is None:
                return False
            if now - kept.started_at > _HEALTHY_S:
                kept.backoff_s = BACKOFF_S_MIN
            kept.restart_at = now + kept.backoff_s
            self._on_event(
                f"{kept.plan.name} {describe_exit(status)}; starting it again in "
                f"{kept.backoff_s:g} s ({kept.plan.log_path})"
            )
            kept.backoff_s = min(kept.backoff_s * 2, BACKOFF_S_MAX)
            return True
        if now < kept.restart_at:
            return False
        kept.child, kept.started_at, kept.restart_at = Child(kept.plan), now, None
        kept.restarts += 1
        self._on_event(f"{kept.plan.name} was started again (process {kept.child.pid})")
        return True

    def stop(self, name: str) -> None:
        """Stops a process for good, if it was ever started."""
        kept = self._kept.pop(name, None)
        if kept is not None:
            kept.child.stop()

    def states(self) -> tuple[ProcessState, ...]:
        """What runs, for the run's state."""
        return tuple(
            ProcessState(name=name, pid=kept.child.pid, port=kept.plan.port, restarts=kept.restarts)
            for name, kept in self._kept.items()
        )

    def running(self) -> Mapping[str, bool]:
        """Whether each process runs at this moment."""
        return {name: kept.child.exit_status() is None for name, kept in self._kept.items()}


def describe_exit(status: int) -> str:
    """An exit status in words."""
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
