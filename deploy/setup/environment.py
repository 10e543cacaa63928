"""The virtual environment: made once, filled from the locks, taken up again where it stopped."""

import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.errors import SetupFailed
from deploy.setup import pip_install
from deploy.setup.progress import Progress, run_logged
from deploy.setup.stamp import Stamp, file_digest, read_stamp, this_python, write_stamp

PROJECT = "project"


class Environment:
    """The environment of one checkout at `root`."""

    def __init__(self, root: Path, venv: Path) -> None:
        self.root = root
        self.venv = venv

    @classmethod
    def of_checkout(cls, root: Path, environ: Mapping[str, str] = os.environ) -> "Environment":
        """In FLOODGATE_VENV, or .venv of the checkout."""
        chosen = environ.get("FLOODGATE_VENV")
        return cls(root, Path(chosen).expanduser().absolute() if chosen else root / ".venv")

    @property
    def log_path(self) -> Path:
        return self.venv / "floodgate-setup.log"

    def lock_path(self, lock: str) -> Path:
        return self.root / "constraints" / f"{lock}.txt"

    def parts_wanted(self, locks: tuple[str, ...]) -> dict[str, str]:
        """Name and digest of everything that should be installed, in order."""
        wanted = {lock: file_digest(self.lock_path(lock)) for lock in locks}
        # The project is installed by reference, so its place counts too.
        wanted[PROJECT] = file_digest(self.root / "pyproject.toml", str(self.root))
        return wanted

    def parts_missing(self, locks: tuple[str, ...]) -> dict[str, str]:
        """Those of `parts_wanted` that the environment does not hold."""
        stamp = read_stamp(self.venv)
        wanted = self.parts_wanted(locks)
        if stamp is None or stamp.python != this_python():
            return wanted
        return {name: digest for name, digest in wanted.items() if stamp.parts.get(name) != digest}

    def install(self, locks: tuple[str, ...], progress: Progress) -> None:
        """Makes the environment hold `locks` and the project. One at a time for each environment.

        Raises:
            SetupFailed: with the reason and what to do; what was installed by then stays.
        """
        with self._alone():
            stamp = self._make(progress)
            pip_install.drop_half_installed(self.venv)
            for name, digest in self.parts_missing(locks).items():
                if name == PROJECT:
                    pip_install.install_project(self.venv, self.root, progress)
                else:
                    pip_install.install_lock(self.venv, self.lock_path(name), progress)
                stamp = stamp.with_part(name, digest)
                write_stamp(self.venv, stamp)

    def _make(self, progress: Progress) -> Stamp:
        """An environment of this Python with pip in it, and what it holds already."""
        stamp = read_stamp(self.venv)
        if stamp is not None and stamp.python == this_python() and self._works():
            return stamp
        if stamp is not None:
            self._empty()  # made by us, with another Python
        with progress.step(f"virtual environment in {self.venv}"):
            if run_logged([sys.executable, "-m", "venv", str(self.venv)], progress) != 0:
                raise SetupFailed(
                    f"The virtual environment could not be made: {progress.last_words()}",
                    f"The whole output is in {progress.log_path}.",
                )
        stamp = Stamp(this_python(), {})
        write_stamp(self.venv, stamp)
        return stamp

    def _works(self) -> bool:
        return (self.venv / "bin" / "python").exists() and any(
            self.venv.glob("lib/python*/site-packages/pip")
        )

    def _empty(self) -> None:
        for entry in self.venv.iterdir():
            if entry.name.startswith("floodgate-setup"):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two set-ups of one environment follow each other."""
        with (self.venv / "floodgate-setup.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
