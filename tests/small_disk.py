"""A disk of a few megabytes for tests: a tmpfs, mounted and taken away again."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted tmpfs. `fill` leaves so many bytes free, `clear` frees what `fill` took."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, free_bytes: int) -> None:
        """Never takes more than that, not even for a moment: a Redis may be writing here."""
        block = bytes(4096)
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while shutil.disk_usage(self.folder).free >= free_bytes + len(block):
                file.write(block)

    def clear(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, *, mib: int) -> Iterator[SmallDisk]:
    """Skips the test, with the reason, where mounting is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk needs the right to mount: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
