"""ledger: backup, restore, check, migrate."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The ledger: backup, restore, check, migrate.")

_TELL_EVERY_S = 1.0
_CHECK_FAILED = 5
_GUARD_EVERY_S = 0.5


@app.callback()
def ledger() -> None:
    """The ledger: backup, restore, check, migrate."""


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where the backup goes (an RDB file, mode 0600).")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a snapshot of the running ledger to FILE. Nobody waits meanwhile."""
    from deploy.errors import Refused
    from deploy.ledger_access import ledger_url
    from deploy.settings import LaunchSettings, read_settings
    from waitlist.errors import WaitlistError
    from waitlist.upkeep.ledger_backup import back_up

    tell = _now_and_then()
    url = ledger_url(read_settings(LaunchSettings).folders())
    try:
        size = back_up(
            url, file, overwrite=force, on_progress=lambda n: tell(f"{n / 1e6:.1f} MB written")
        )
    except WaitlistError as error:
        raise Refused(error.message, error.hint) from error
    typer.echo(
        f"{file}: {size / 1e6:.1f} MB. It holds e-mail addresses: keep it as you keep those."
    )


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `ledger backup` wrote.")],
    folder: Annotated[
        Path | None,
        typer.Option(help="`dir` of a stopped ledger of your own. Default: FLOODGATE_HOME/ledger."),
    ] = None,
    allow_damage: Annotated[
        bool, typer.Option("--allow-damage", help="Restore even what `ledger check` complains of.")
    ] = False,
) -> None:
    """Put FILE in the place of the stopped ledger; the one that is there is kept beside it."""
    from contextlib import ExitStack

    from deploy.launcher.run_lock import hold_run_lock
    from deploy.ledger_access import in_our_words
    from deploy.settings import LaunchSettings, read_settings
    from waitlist.upkeep.ledger_restore import restore as restore_file

    home = read_settings(LaunchSettings).folders()
    tell = _now_and_then()
    with ExitStack() as stack:
        if folder is None:
            home.make()
            stack.enter_context(hold_run_lock(home))
        restored = in_our_words(
            restore_file(
                file,
                folder or home.ledger,
                allow_damage=allow_damage,
                on_progress=lambda p: tell(f"{p.record}: {p.checked} checked"),
                now_s=time.time(),
            )
        )
    typer.echo(f"Restored {restored.records} records of schema {restored.schema}.")
    if restored.findings:
        typer.echo(f"{restored.findings} of them do not fit: `floodgate ledger check`.")
    if restored.set_aside:
        typer.echo(f"The ledger that was there is in {restored.set_aside}.")


@app.command()
def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Check every reference between the running ledger's records; exit status 5 on damage."""
    import dataclasses

    from deploy.ledger_access import ledger_url, with_ledger
    from deploy.settings import LaunchSettings, read_settings
    from waitlist.storage.ledger import Ledger
    from waitlist.upkeep.ledger_check import Progress, check_ledger

    tell = _now_and_then()
    checked: dict[str, int] = {}

    def note(progress: Progress) -> None:
        checked[progress.record] = progress.checked
        tell(f"{progress.record}: {progress.checked} checked")

    async def run(ledger: Ledger) -> int:
        count = 0
        async for finding in check_ledger(ledger, note):
            count += 1
            row = dataclasses.asdict(finding)
            typer.echo(json.dumps(row) if as_json else "\t".join(row.values()))
        return count

    url = ledger_url(read_settings(LaunchSettings).folders())
    count = with_ledger(url, run, any_schema=True)
    summary = ", ".join(f"{n} of {record}" for record, n in checked.items())
    typer.echo(f"Checked {summary}: {count or 'nothing'} wrong.", err=as_json)
    if count:
        raise typer.Exit(_CHECK_FAILED)


@app.command()
def migrate() -> None:
    """Bring the running ledger to this Floodgate's schema. Stop the gateways before; back up first.

    What is cut short goes on where it stopped when it is run again.
    """
    from deploy.ledger_access import ledger_url, with_ledger
    from deploy.settings import LaunchSettings, read_settings
    from waitlist.storage.migrations import migrate as run_migrations

    tell = _now_and_then()
    url = ledger_url(read_settings(LaunchSettings).folders())
    found, reached = with_ledger(
        url,
        lambda ledger: run_migrations(
            ledger,
            on_progress=lambda p: tell(f"to schema {p.version}, {p.title}: {p.records} done"),
        ),
        any_schema=True,
    )
    typer.echo(
        f"The ledger has schema {reached}."
        if found == reached
        else f"The ledger went from schema {found} to {reached}."
    )


@app.command()
def guard(
    folder: Annotated[Path, typer.Argument(help="`dir` of the ledger Redis, on this machine.")],
) -> None:
    """Refuse writes to FLOODGATE_LEDGER_URL while its disk is below the floor; runs until stopped.

    For a ledger of your own, beside it: `floodgate up` does this for its ledger by itself.
    """
    from deploy.launcher.ledger_disk import LedgerDisk
    from deploy.launcher.stop_signal import StopRequested, stop_signals
    from deploy.ledger_access import ledger_url
    from deploy.settings import LaunchSettings, read_settings

    settings = read_settings(LaunchSettings)
    disk = LedgerDisk(
        folder,
        ledger_url(settings.folders()),
        free_bytes_min=settings.ledger_free_bytes_min,
        on_event=lambda text: typer.echo(text, err=True),
    )
    with stop_signals() as stop:
        try:
            while True:
                disk.check()
                stop.wait(_GUARD_EVERY_S)
        except StopRequested:
            disk.close()


def _now_and_then() -> Callable[[str], None]:
    """Says how far it is, once a second, on standard error."""
    told_at = time.monotonic()

    def tell(text: str) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _TELL_EVERY_S:
            told_at = time.monotonic()
            sys.stderr.write(f"  {text}\n")
            sys.stderr.flush()

    return tell
