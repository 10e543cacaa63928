"""release: automatic release, its decisions and schedule, and a launch played through.

It is paused as all releasing is: `floodgate waitlist pause releasing`.
"""

import json
from datetime import datetime
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Automatic release of the waitlist.")


@app.callback()
def release() -> None:
    """Automatic release of the waitlist."""


@app.command()
def decisions(
    count: Annotated[int, typer.Option(min=1, max=200, help="How many, newest first.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show the last decisions with their whole arithmetic."""
    from deploy.ledger_access import ledger_url, with_ledger
    from deploy.settings import LaunchSettings, read_settings
    from waitlist.release.release_record import describe
    from waitlist.release.release_store import ReleaseStore

    url = ledger_url(read_settings(LaunchSettings).folders())
    recorded = with_ledger(url, lambda ledger: ReleaseStore(ledger).newest_decisions(count))
    for one in recorded:
        if as_json:
            row = json.loads(one.decision.to_json()) | {"released": one.released}
            typer.echo(json.dumps(row))
        else:
            typer.echo(describe(one))
    if not recorded:
        typer.echo("Nothing was decided yet.", err=True)


@app.command()
def schedule(
    begins_at: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%dT%H:%M"], help="Nobody before this time, UTC."),
    ] = None,
    from_hour: Annotated[
        int | None, typer.Option(min=0, max=23, help="Only from this hour of the day on, UTC …")
    ] = None,
    until_hour: Annotated[
        int | None, typer.Option(min=0, max=23, help="… until this one; may be past midnight.")
    ] = None,
    batch_max: Annotated[int | None, typer.Option(min=1, help="Largest batch.")] = None,
) -> None:
    """Set when and how many at most. What is not named is taken back: alone it lifts all bounds."""
    from datetime import UTC

    at = begins_at.replace(tzinfo=UTC).timestamp() if begins_at else None
    _change(begins_at_s=at, from_hour=from_hour, until_hour=until_hour, batch_max=batch_max)
    typer.echo("The schedule is set.")


@app.command()
def simulate(
    slots: Annotated[
        str, typer.Option(help="Slots, and later changes as DAY:SLOTS: 64,5:96,20:48.")
    ] = "64",
    days: Annotated[int, typer.Option(min=4, max=120, help="Days that are played.")] = 30,
    person_slots: Annotated[
        float, typer.Option(min=0.0001, help="Slots that one person holds, mean over the day.")
    ] = 0.01,
    waiting: Annotated[int, typer.Option(min=1, help="People on the waitlist.")] = 1_000_000,
    target_use: Annotated[float, typer.Option(min=0.05, max=1.0, help="Share to be used.")] = 0.8,
    seed: Annotated[int, typer.Option(help="Another seed plays another launch.")] = 1,
) -> None:
    """Play a launch with the real rule: batches, how full it gets, minutes of overload."""
    from waitlist.release.launch_report import LaunchPlan, Population
    from waitlist.release.launch_simulation import Launch, report_of
    from waitlist.release.release_sizing import SizingPolicy

    plan = LaunchPlan(days=days, capacity_slots=_changes(slots), people_waiting=waiting, seed=seed)
    launch = Launch(
        plan, Population(person_slots=person_slots), SizingPolicy(target_use=target_use)
    )
    typer.echo("day  slots   safe  busiest hour  used  invited  people in")
    played = []
    for day in launch.run():
        played.append(day)
        typer.echo(
            f"{day.day:3d}  {day.capacity_slots:5.0f}  {day.safe_slots:5.1f}  "
            f"{day.busiest_hour_slots:12.1f}  {day.safe_used:4.2f}  {day.invited:7d}  "
            f"{day.people_in:9d}"
        )
    report = report_of(launch, played)
    typer.echo(
        f"Safe headroom used at the busiest hour: {report.safe_used:.3f} over all days"
        + (f", {report.safe_used_settled:.3f} on settled ones" if report.has_settled else "")
        + f".\nOverload caused by release: {report.overload_by_release_minutes:.0f} minutes; "
        f"in all, with lost capacity: {report.overload_minutes:.0f}."
    )


def _changes(text: str) -> tuple[tuple[float, float], ...]:
    from deploy.errors import Refused

    try:
        first, *later = text.split(",")
        changes = [(0.0, float(first))]
        for change in later:
            day, slots = change.split(":")
            changes.append((float(day), float(slots)))
    except ValueError:
        raise Refused(f"{text!r} is no capacity.", "Write it as 64 or 64,5:96,20:48.") from None
    if any(slots <= 0 for _, slots in changes) or changes != sorted(changes, key=lambda c: c[0]):
        raise Refused(f"{text!r} is no capacity.", "Slots are above 0, days in order.")
    return tuple(changes)


def _change(**fields: object) -> None:
    """Reads what is set, changes these fields, writes it."""
    import dataclasses
    import time

    from deploy.ledger_access import ledger_url, user_name, with_ledger
    from deploy.settings import LaunchSettings, read_settings
    from waitlist.release.release_store import ReleaseStore
    from waitlist.storage.ledger import Ledger

    async def write(ledger: Ledger) -> None:
        store = ReleaseStore(ledger)
        control = dataclasses.replace((await store.read()).control, **fields)  # type: ignore[arg-type]
        await store.set_control(control, at_s=time.time(), actor=f"cli:{user_name()}")

    with_ledger(ledger_url(read_settings(LaunchSettings).folders()), write)
