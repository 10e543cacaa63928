"""The folders under FLOODGATE_HOME and FLOODGATE_CACHE."""

from dataclasses import dataclass
from pathlib import Path

_PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class Home:
    """Where one deployment keeps its things.

    `root` belongs to one deployment; `cache` holds what several may share: the converted model.
    """

    root: Path
    cache: Path

    @property
    def run(self) -> Path:
        """What one run needs and holds secrets: state, Redis configurations. Mode 0700."""
        return self.root / "run"

    @property
    def ledger(self) -> Path:
        """Data of the ledger Redis. Worth a backup, together with `waitlist_secret`."""
        return self.root / "ledger"

    @property
    def waitlist_secret(self) -> Path:
        """What tickets are signed with; a ledger that is restored elsewhere needs it too."""
        return self.root / "waitlist-secret"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def models(self) -> Path:
        return self.cache / "models"

    @property
    def lock(self) -> Path:
        return self.run / "lock"

    @property
    def state(self) -> Path:
        return self.run / "state.json"

    def make(self) -> None:
        """Makes the folders. Raises OSError where that is not allowed."""
        for folder in (self.root, self.run, self.ledger, self.logs):
            folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        self.run.chmod(_PRIVATE)
