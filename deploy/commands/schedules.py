"""waitlist schedule: letting people in at a time, once or again and again."""

from datetime import datetime
from typing import Annotated

import typer

from deploy.commands.rows import Json, print_rows

app = typer.Typer(no_args_is_help=True, help="Letting people in at a time.")

Plan = Annotated[str, typer.Option(help="Plan of the accounts they make.")]
InviteLife = Annotated[str, typer.Option(help="How long an invite is good for: 12h, 7d.")]


@app.command("add")
def add_schedule(
    first_at: Annotated[str, typer.Argument(help="ISO 8601 with zone: 2026-12-01T09:00:00Z.")],
    count: Annotated[int, typer.Argument(min=1, help="People each time.")],
    every: Annotated[str, typer.Option(help="Again after 1h, 1d …; empty: once.")] = "",
    until: Annotated[str, typer.Option(help="ISO 8601: no time after it.")] = "",
    plan: Plan = "free",
    invite_life: InviteLife = "7d",
) -> None:
    """Let people in at a time, once or again and again."""
    from deploy.commands.durations import parse_duration_s
    from deploy.directory_access import on_waitlist

    first, last = _moment(first_at), _moment(until) if until else None
    every_s = parse_duration_s(every) if every else 0
    invite_life_s = parse_duration_s(invite_life)
    typer.echo(
        on_waitlist(
            lambda directory: directory.schedules.add(
                first, count, every_s=every_s, until=last, plan=plan, invite_life_s=invite_life_s
            )
        )
    )


@app.command("list")
def list_schedules(as_json: Json = False) -> None:
    """Schedules, next first."""
    from dataclasses import asdict

    from deploy.directory_access import on_waitlist

    rows = on_waitlist(lambda directory: directory.schedules.list_all())
    print_rows((asdict(row) for row in rows), as_json=as_json, heading=True)


@app.command("drop")
def drop_schedule(schedule_id: Annotated[str, typer.Argument(help="sched_…")]) -> None:
    """End a schedule."""
    from deploy.directory_access import on_waitlist

    on_waitlist(lambda directory: directory.schedules.drop(schedule_id))
    typer.echo("Dropped.")


def _moment(text: str) -> datetime:
    from deploy.errors import Refused

    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Refused(
            f"{text!r} is no time.", "Write it as 2026-12-01T09:00:00Z or with +08:00."
        ) from None
