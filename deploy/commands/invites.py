"""invites: making codes."""

import json
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Invite codes.")


@app.callback()
def invites() -> None:
    """Invite codes."""


@app.command()
def create(
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
    plan: Annotated[str, typer.Option(help="Plan of the accounts they make.")] = "free",
    note: Annotated[str, typer.Option(help="For your own records.")] = "",
    expires_in: Annotated[
        str | None, typer.Option(help="How long they are good for: 90s, 30m, 12h, 7d.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make codes. They are shown this once; only their digests are stored."""
    from deploy.commands.durations import parse_duration_s
    from deploy.directory_access import redis_urls, with_directory
    from deploy.settings import LaunchSettings, read_settings

    expires_in_s = None if expires_in is None else parse_duration_s(expires_in)
    urls = redis_urls(read_settings(LaunchSettings).folders())
    made = with_directory(
        urls,
        lambda directory: directory.create_invites(
            count, plan, note=note, expires_in_s=expires_in_s
        ),
    )
    if not as_json:
        for invite in made:
            typer.echo(invite.code)
        return
    rows = [
        {
            "code": invite.code,
            "invite_id": invite.invite_id,
            "plan": invite.plan,
            "created_at": invite.created_at.isoformat(),
            "expires_at": invite.expires_at.isoformat() if invite.expires_at else None,
        }
        for invite in made
    ]
    typer.echo(json.dumps({"invites": rows}, indent=2))


@app.command()
def revoke(
    invite_id: Annotated[str, typer.Argument(help="inv_…; or name a campaign.")] = "",
    campaign: Annotated[
        str, typer.Option(help="All codes of this campaign that are not used up.")
    ] = "",
) -> None:
    """Withdraw a code by its id, or all codes of a campaign. Accounts that came by them stay."""
    from deploy.directory_access import on_waitlist
    from deploy.errors import Refused
    from waitlist.directory import Directory

    if bool(invite_id) == bool(campaign):
        raise Refused("Name one invite, or a campaign with --campaign.")

    async def withdraw(directory: Directory) -> int:
        if campaign:
            return await directory.invites.revoke_campaign(campaign)
        await directory.invites.revoke_by_id(invite_id)
        return 1

    typer.echo(f"{on_waitlist(withdraw)} codes withdrawn.")
