"""waitlist: letting people in, pausing, searching, mails, statistics, import and export."""

import json
from typing import Annotated, Any, Literal

import typer

from deploy.commands import line_files, schedules
from deploy.commands.rows import Json, print_record, print_rows
from deploy.commands.schedules import InviteLife, Plan

app = typer.Typer(no_args_is_help=True, help="The line: let people in, pause, search, import.")
mail = typer.Typer(no_args_is_help=True, help="Mails that wait, and those held for you.")
app.add_typer(mail, name="mail")
app.add_typer(schedules.app, name="schedule")
app.command("import")(line_files.import_people)
app.command("export")(line_files.export_people)

What = Annotated[Literal["joining", "releasing"], typer.Argument(help="joining or releasing.")]


@app.command()
def status(as_json: Json = False) -> None:
    """How the line stands now."""
    from dataclasses import asdict

    from deploy.directory_access import on_waitlist

    overview = asdict(on_waitlist(lambda directory: directory.overview.line()))
    del overview["released_by_hour"]
    print_record(overview, as_json=as_json)


@app.command()
def stats(
    days: Annotated[int, typer.Option(min=1, help="How many days, today last.")] = 30,
    as_json: Json = False,
) -> None:
    """Counts by day, in UTC."""
    from deploy.directory_access import on_waitlist

    rows = on_waitlist(lambda directory: directory.overview.days(days))
    print_rows(({"day": row.day, **row.counts} for row in rows), as_json=as_json, heading=True)


@app.command()
def release(
    count: Annotated[int, typer.Argument(min=1, help="How many people.")],
    plan: Plan = "free",
    invite_life: InviteLife = "7d",
    transferable: Annotated[
        bool, typer.Option(help="Codes are good for any address, not only the person's own.")
    ] = False,
    reason: Annotated[str, typer.Option(help="For the audit.")] = "",
    batch: Annotated[str, typer.Option(help="Go on with this batch (batch_…).")] = "",
    as_json: Json = False,
) -> None:
    """Let people in now, the head of the line first."""
    from dataclasses import asdict

    from deploy.commands.durations import parse_duration_s
    from deploy.directory_access import on_waitlist

    invite_life_s = parse_duration_s(invite_life)
    done = on_waitlist(
        lambda directory: directory.releases.release(
            count,
            plan=plan,
            invite_life_s=invite_life_s,
            transferable=transferable,
            reason=reason,
            batch_id=batch,
        )
    )
    print_record(asdict(done), as_json=as_json)


@app.command()
def releases(as_json: Json = False) -> None:
    """The newest batches, newest first."""
    from dataclasses import asdict

    from deploy.directory_access import on_waitlist

    batches = on_waitlist(lambda directory: directory.releases.newest())
    print_rows((asdict(batch) for batch in batches), as_json=as_json, heading=True)


@app.command()
def close(
    batch: Annotated[str, typer.Argument(help="batch_…, from `waitlist releases`.")],
    as_json: Json = False,
) -> None:
    """End a batch early: whom it has let in stays in, nobody else is let in by it."""
    from dataclasses import asdict

    from deploy.directory_access import on_waitlist
    from waitlist.directory import Directory
    from waitlist.storage.records import Batch

    async def end(directory: Directory) -> Batch:
        await directory.releases.close(batch, "by an operator")
        return await directory.releases.read(batch)

    print_record(asdict(on_waitlist(end)), as_json=as_json)


@app.command()
def pause(what: What) -> None:
    """Pause joining or releasing. All places are kept."""
    _set_pause(what, paused=True)


@app.command()
def resume(what: What) -> None:
    """End a pause."""
    _set_pause(what, paused=False)


def _set_pause(what: Literal["joining", "releasing"], *, paused: bool) -> None:
    from deploy.directory_access import on_waitlist

    changed = on_waitlist(lambda directory: directory.overview.pause(what, paused=paused))
    state = "paused" if paused else "open"
    typer.echo(f"{what} is {state}{'' if changed else ' already'}.")


@app.command()
def search(
    email: Annotated[str, typer.Argument(help="The address.")], as_json: Json = False
) -> None:
    """Who has this address: the place in line, and the account. The audit keeps that you asked."""
    from deploy.directory_access import on_waitlist
    from deploy.errors import Refused
    from waitlist.directory import Directory
    from waitlist.operators.exports import exported_row

    async def find(directory: Directory) -> dict[str, Any]:
        entry_id, account_id = await directory.overview.find_address(email)
        found: dict[str, Any] = {}
        if entry_id is not None:
            [entry] = await directory.entries.read_many([entry_id])
            found |= {} if entry is None else exported_row(entry)
        return found | ({} if account_id is None else {"account_id": account_id})

    found = on_waitlist(find)
    if not found:
        raise Refused("Nobody here has this address.")
    print_record(found, as_json=as_json)


@app.command()
def erase(entry_id: Annotated[str, typer.Argument(help="From `waitlist search`.")]) -> None:
    """Erase what is personal of a place, and give it up. The audit keeps a digest."""
    from deploy.directory_access import on_waitlist

    state = on_waitlist(lambda directory: directory.departures.erase_for_operator(entry_id))
    typer.echo(f"Erased; the place is {state}.")


@app.command()
def audit(
    after: Annotated[str, typer.Option(help="Only what came after this id.")] = "",
) -> None:
    """Who did what and when, one JSON object a line, oldest first."""
    from deploy.directory_access import on_waitlist
    from waitlist.directory import Directory

    async def print_audit(directory: Directory) -> None:
        async for entry in directory.overview.audit(after):
            typer.echo(json.dumps({"id": entry.audit_id, **entry.fields}))

    on_waitlist(print_audit)


@mail.command("list")
def list_mails(as_json: Json = False) -> None:
    """Mails to be sent by themselves, and held ones with the reason."""
    from dataclasses import asdict

    from deploy.directory_access import on_waitlist
    from waitlist.directory import Directory

    async def read(directory: Directory) -> list[dict[str, Any]]:
        return [
            *({"held": True, **asdict(row)} for row in await directory.outbox.held()),
            *({"held": False, **asdict(row)} for row in await directory.outbox.waiting()),
        ]

    print_rows(on_waitlist(read), as_json=as_json, heading=True)


@mail.command("show")
def show_mail(mail_id: Annotated[str, typer.Argument(help="From `mail list`.")]) -> None:
    """Address and text of a mail. It holds a code or a link: deliver it, and nothing else."""
    from deploy.directory_access import on_waitlist
    from waitlist.directory import Directory
    from waitlist.mail.messages import Message

    async def show(directory: Directory) -> tuple[str, Message]:
        await directory.overview.note("mail_shown", mail_id[:64])
        return await directory.delivery.show(mail_id)

    email, message = on_waitlist(show)
    typer.echo(f"To: {email}\nSubject: {message.subject}\n\n{message.body}")


@mail.command()
def requeue(mail_id: Annotated[str, typer.Argument(help="From `mail list`.")]) -> None:
    """Send a held mail again."""
    from deploy.directory_access import on_waitlist

    on_waitlist(lambda directory: directory.outbox.requeue(mail_id))
    typer.echo("It goes out with the next round.")


@mail.command()
def delivered(mail_id: Annotated[str, typer.Argument(help="From `mail list`.")]) -> None:
    """Drop a held mail that you have delivered yourself."""
    from deploy.directory_access import on_waitlist

    on_waitlist(lambda directory: directory.outbox.delivered(mail_id))
    typer.echo("Dropped.")
