"""waitlist import and export: the line from and into files."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.rows import OnceASecond


def import_people(
    file: Annotated[Path, typer.Argument(help="A .csv with a heading, or a .jsonl.")],
    rejects: Annotated[
        Path | None,
        typer.Option(help="Write rows that cannot be used here, and take the others."),
    ] = None,
) -> None:
    """Add the people of a file to the line, in its order, as confirmed.

    Fields: email, joined_at, locale, note. Started again it goes on where it stopped. Of an export,
    rows of people who left, were erased or never confirmed are passed over.
    """
    from deploy.commands.people_files import RejectWriter, file_digest, read_rows
    from deploy.directory_access import on_waitlist
    from waitlist.directory import Directory
    from waitlist.operators.transfers import ImportProgress

    digest = file_digest(file)
    reject = None if rejects is None else RejectWriter(rejects).write
    progress = OnceASecond()

    async def add(directory: Directory) -> ImportProgress:
        with read_rows(file) as rows:
            async for done in directory.imports.run(digest, rows, reject):
                progress.tell(f"{done.rows} rows")
        return await directory.imports.progress(digest)

    done = on_waitlist(add)
    typer.echo(
        f"{done.rows} rows read, {done.added} people added, {done.skipped} known already, "
        f"{done.passed_over} passed over, {done.rejected} rejected."
    )


def export_people(
    file: Annotated[Path, typer.Argument(help="A .csv or a .jsonl.")],
    resume: Annotated[bool, typer.Option(help="Go on with a file that was begun.")] = False,
    waiting: Annotated[
        bool, typer.Option(help="Those who wait alone, first in line first, for `import`.")
    ] = False,
) -> None:
    """Write every place into a file. It holds addresses: mind who can read it."""
    from deploy.commands.people_files import PeopleWriter
    from deploy.directory_access import on_waitlist
    from waitlist.directory import Directory
    from waitlist.operators.exports import EXPORTED_FIELDS, exported_row

    progress = OnceASecond()

    async def write(directory: Directory) -> int:
        await directory.overview.note("entries_exported", file.name[:64])
        exports = directory.exports
        with PeopleWriter(file, EXPORTED_FIELDS, resume=resume) as writer:
            source = exports.waiting if waiting else exports.entries
            async for entry in source(writer.written):
                writer.write(exported_row(entry))
                progress.tell(f"{writer.rows} places")
        return writer.rows

    typer.echo(f"{on_waitlist(write)} places written.")
