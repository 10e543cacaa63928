"""campaigns: codes for the press, partners or a conference."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.rows import Json, print_rows

app = typer.Typer(no_args_is_help=True, help="Codes that are made, counted and paused together.")

Name = Annotated[str, typer.Argument(help="a-z, 0-9, _ and -.")]


@app.command()
def add(
    name: Name, plan: Annotated[str, typer.Option(help="Plan of its accounts.")] = "free"
) -> None:
    """Make a campaign."""
    from deploy.directory_access import on_waitlist

    on_waitlist(lambda directory: directory.campaigns.add(name, plan))
    typer.echo(f"`floodgate campaigns codes {name} --count …` makes its codes.")


@app.command("list")
def list_campaigns(as_json: Json = False) -> None:
    """Campaigns with their counts, newest first."""
    from dataclasses import asdict

    from deploy.directory_access import on_waitlist

    rows = on_waitlist(lambda directory: directory.campaigns.list_all())
    print_rows((asdict(row) for row in rows), as_json=as_json, heading=True)


@app.command()
def codes(
    name: Name,
    count: Annotated[int, typer.Option(min=1, help="How many codes.")] = 1,
    uses: Annotated[int, typer.Option(min=1, help="Accounts that one code is good for.")] = 1,
    expires_in: Annotated[str, typer.Option(help="90s, 30m, 12h, 7d; empty: never.")] = "",
    qr: Annotated[
        Path | None, typer.Option(help="Also write each link as a QR code (SVG) into this folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make codes of a campaign, with the links that redeem them. Shown this once."""
    from deploy.commands.durations import parse_duration_s
    from deploy.commands.qr_codes import write_qr_codes
    from deploy.directory_access import on_waitlist
    from waitlist.directory import Directory

    expires_in_s = parse_duration_s(expires_in) if expires_in else None

    async def make(directory: Directory) -> list[dict[str, str]]:
        made = await directory.campaigns.make_codes(
            name, count, uses=uses, expires_in_s=expires_in_s
        )
        return [
            {
                "invite_id": invite.invite_id,
                "code": invite.code,
                "link": directory.redeem_link(invite.code),
            }
            for invite in made
        ]

    rows = on_waitlist(make)
    print_rows(rows, as_json=as_json)
    if qr is not None:
        write_qr_codes(qr, {row["invite_id"]: row["link"] for row in rows})


@app.command()
def pause(name: Name) -> None:
    """Stop its codes from being redeemed."""
    from deploy.directory_access import on_waitlist

    on_waitlist(lambda directory: directory.campaigns.pause(name, paused=True))
    typer.echo(f"{name} is paused.")


@app.command()
def resume(name: Name) -> None:
    """Let its codes be redeemed again."""
    from deploy.directory_access import on_waitlist

    on_waitlist(lambda directory: directory.campaigns.pause(name, paused=False))
    typer.echo(f"{name} is open.")
