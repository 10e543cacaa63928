"""Redis's own programs, and what a file needs to be on disk for good."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from waitlist.errors import LedgerBackupRefused

# About 100 MB/s are read and written: this is a ledger of 60 GB, on a slow day.
WORK_S_MAX: Final = 3600.0
_POLL_S: Final = 0.05


def run_redis_cli(
    url: str, command: Sequence[str], on_poll: Callable[[], None] = lambda: None
) -> str:
    """Runs redis-cli on a URL; the password goes by its environment, which others cannot read.

    Returns what it printed. Raises LedgerBackupRefused with its last line where it fails.
    """
    parts = urlsplit(url)
    argv = [program_path("redis-cli")]
    if parts.scheme == "unix":
        argv += ["-s", parts.path]
    else:
        argv += ["-h", parts.hostname or "127.0.0.1", "-p", str(parts.port or 6379)]
    argv += ["--tls"] if parts.scheme == "rediss" else []
    argv += ["--user", unquote(parts.username)] if parts.username else []
    environ = {**os.environ, "REDISCLI_AUTH": unquote(parts.password or "")}
    if not parts.password:
        del environ["REDISCLI_AUTH"]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [*argv, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ
        )
        try:
            for _ in polls():
                on_poll()
                if process.poll() is not None:
                    break
        finally:
            if process.poll() is None:
                process.kill()
            status = process.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    if status != 0 or text.startswith(("ERR", "NOAUTH", "NOPERM", "LOADING")):
        words = text.strip().splitlines()[-1:] or [f"redis-cli ended with status {status}"]
        raise LedgerBackupRefused(
            f"The ledger cannot be read: {words[0]}",
            hint="`floodgate status` shows whether it runs.",
        )
    return text


def check_rdb(file: Path) -> None:
    """Raises LedgerBackupRefused where a file is no whole snapshot."""
    if not file.is_file():
        raise LedgerBackupRefused(f"There is no file {file}.")
    check = subprocess.run(
        [program_path("redis-check-rdb"), str(file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=WORK_S_MAX,
        check=False,
    )
    if check.returncode != 0:
        words = check.stdout.decode(errors="replace").strip().splitlines()[-1:] or ["no reason"]
        raise LedgerBackupRefused(
            f"{file} is no whole backup: {words[0]}", hint="Take another backup."
        )


def program_path(name: str) -> str:
    """Where a program is. Raises LedgerBackupRefused where it is not installed."""
    program = shutil.which(name)
    if program is None:
        raise LedgerBackupRefused(
            f"{name} is not installed.", hint="It comes with redis-server (Debian: redis-tools)."
        )
    return program


def polls() -> Iterator[None]:
    """Turns at which to look whether something is done, until the longest work would be."""
    for _ in range(round(WORK_S_MAX / _POLL_S)):
        yield
        time.sleep(_POLL_S)


def sync(path: Path) -> None:
    """Puts a file, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
