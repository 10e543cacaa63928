"""A backup put in the place of a stopped ledger.

A restore builds a new folder beside the old one, loads the file into a Redis of its own that only
this process can reach, checks every record, and then swaps the two folders in one step. Killed at
any point, it leaves either the old ledger or the new one.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from waitlist.errors import LedgerBackupRefused, LedgerDamaged, LedgerIncompatible
from waitlist.storage import redis_keys
from waitlist.storage.ledger import Ledger
from waitlist.upkeep.ledger_check import Finding, Progress, check_ledger
from waitlist.upkeep.ledger_tail import repair_tail
from waitlist.upkeep.redis_programs import (
    WORK_S_MAX,
    check_rdb,
    polls,
    program_path,
    run_redis_cli,
    sync,
)

_DEADLINE_S: Final = 30.0
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
# A restore shows the first damages and counts the others.
_FINDINGS_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. `set_aside` is where the ledger that was there before is now."""

    records: int
    schema: str
    findings: int
    set_aside: Path | None


async def restore(
    file: Path,
    folder: Path,
    *,
    allow_damage: bool,
    on_progress: Callable[[Progress], None],
    now_s: float,
) -> Restored:
    """Makes `folder` the `dir` of a ledger that holds what the file holds.

    The ledger of that folder must be stopped; it is kept beside it.

    Raises:
        LedgerBackupRefused: the file is no backup of a ledger, is damaged, or there is no room.
        LedgerIncompatible: a later Floodgate wrote it.
    """
    check_rdb(file)
    building = folder.with_name(f".{folder.name}.restoring")
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(mode=0o700, parents=True)
        shutil.copyfile(file, building / "dump.rdb")
        async with _private_redis(building) as url:
            schema, records, findings = await _inspect(url, allow_damage, on_progress)
            run_redis_cli(url, ["CONFIG", "SET", "appendonly", "yes"])
            _wait_for_aof(url)
            run_redis_cli(url, ["CONFIG", "SET", "appendfsync", "always"])
        (building / "dump.rdb").unlink()
        repair_tail(building)
        for path in (*(building / "appendonlydir").iterdir(), building / "appendonlydir", building):
            sync(path)
        set_aside = _put_in_place(building, folder, now_s)
    except OSError as error:
        raise LedgerBackupRefused(
            f"The ledger cannot be built beside {folder}: {error.strerror}.",
            hint="Nothing was changed.",
        ) from error
    except LedgerDamaged as error:
        raise LedgerBackupRefused(error.message, hint="Nothing was changed.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Restored(records=records, schema=schema, findings=findings, set_aside=set_aside)


async def _inspect(
    url: str, allow_damage: bool, on_progress: Callable[[Progress], None]
) -> tuple[str, int, int]:
    ledger = Ledger(url, deadline_s=_DEADLINE_S, any_schema=True)
    try:
        schema = await ledger.run("read_text", [redis_keys.SCHEMA], [])
        if schema is None:
            raise LedgerBackupRefused(
                "The file is no backup of a ledger: it has no schema.", hint="Nothing was changed."
            )
        if int(schema.partition(">")[0]) > int(redis_keys.SCHEMA_VERSION):
            raise LedgerIncompatible(schema, redis_keys.SCHEMA_VERSION)
        checked: dict[str, int] = {}

        def note(progress: Progress) -> None:
            checked[progress.record] = progress.checked
            on_progress(progress)

        findings: list[Finding] = [finding async for finding in check_ledger(ledger, note)]
    finally:
        await ledger.close()
    if findings and not allow_damage:
        shown = "; ".join(
            f"{f.record} {f.subject}: {f.problem}" for f in findings[:_FINDINGS_SHOWN]
        )
        raise LedgerBackupRefused(
            f"The backup's records do not fit together ({len(findings)} findings): {shown}.",
            hint="Nothing was changed. Take another backup, or restore it all the same "
            "(--allow-damage) and look at `floodgate ledger check`.",
        )
    return schema, sum(checked.values()), len(findings)


@asynccontextmanager
async def _private_redis(folder: Path) -> AsyncIterator[str]:
    """A Redis on the folder's dump.rdb, on a socket that only this user can open."""
    with tempfile.TemporaryDirectory(prefix="floodgate-") as socket_folder:
        socket = f"{socket_folder}/redis"
        options = {"port": "0", "unixsocket": socket, "dir": str(folder), "save": ""}
        options |= {"dbfilename": "dump.rdb", "appendonly": "no", "daemonize": "no"}
        log = folder / "restore.log"
        argv = [
            program_path("redis-server"),
            *(p for o in options.items() for p in (f"--{o[0]}", o[1])),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: ASYNC220 - started once, ended below
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        url = f"unix://{socket}"
        try:
            _wait_until_loaded(process, url, log)
            yield url
            # Its end writes and syncs the rest of the append-only file.
            process.terminate()
            process.wait(WORK_S_MAX)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            log.unlink(missing_ok=True)


def _wait_until_loaded(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    for _ in polls():
        if process.poll() is not None:
            words = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no reason"]
            raise LedgerBackupRefused(
                f"Redis cannot load the backup: {words[0]}", hint="Nothing was changed."
            )
        with contextlib.suppress(LedgerBackupRefused):
            if run_redis_cli(url, ["PING"]).strip() == "PONG":
                return


def _wait_for_aof(url: str) -> None:
    for _ in polls():
        lines = run_redis_cli(url, ["INFO", "persistence"]).splitlines()
        state = dict(line.strip().split(":", 1) for line in lines if ":" in line)
        if state["aof_rewrite_in_progress"] == "0" and state["aof_rewrite_scheduled"] == "0":
            if state["aof_last_bgrewrite_status"] != "ok":
                break
            return
    raise LedgerBackupRefused(
        "Redis could not write the ledger's files.", hint="Nothing was changed. Is the disk full?"
    )


def _put_in_place(building: Path, folder: Path, now_s: float) -> Path | None:
    """Swaps the folders in one step, so that no moment is without a ledger."""
    if not folder.exists() or not any(folder.iterdir()):
        building.replace(folder)
        sync(folder.parent)
        return None
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
    set_aside = folder.with_name(f"{folder.name}.before-{stamp}")
    if set_aside.exists():
        raise LedgerBackupRefused(f"{set_aside} exists.", hint="Nothing was changed.")
    libc = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(building), os.fsencode(folder))
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    building.replace(set_aside)
    sync(folder.parent)
    return set_aside
