"""Backups of the ledger: one consistent snapshot in a file.

A backup is an RDB file that Redis itself makes: `redis-cli --rdb` asks the running ledger for what
a new replica would get, so nobody waits and everything in it is of one moment. It holds addresses
and digests, no codes and no keys, and is written with mode 0600.
"""

import os
from collections.abc import Callable
from pathlib import Path

from waitlist.errors import LedgerBackupRefused
from waitlist.upkeep.redis_programs import check_rdb, run_redis_cli, sync


def back_up(url: str, file: Path, *, overwrite: bool, on_progress: Callable[[int], None]) -> int:
    """Writes a snapshot of the running ledger; returns its bytes. `on_progress` gets bytes so far.

    Raises:
        LedgerBackupRefused: the file exists, or cannot be written, or the ledger broke off. A file
            that was there before is untouched.
    """
    if file.exists() and not overwrite:
        raise LedgerBackupRefused(
            f"{file} exists.", hint="Choose another name, or allow it to be replaced (--force)."
        )
    partial = file.with_name(f".{file.name}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.close(descriptor)
        run_redis_cli(url, ["--rdb", str(partial)], lambda: on_progress(partial.stat().st_size))
        check_rdb(partial)
        sync(partial)
        partial.replace(file)
        sync(file.parent)
    except OSError as error:
        raise LedgerBackupRefused(
            f"{file} cannot be written: {error.strerror}.", hint="Choose another place."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return file.stat().st_size
