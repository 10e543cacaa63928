"""keys: listing and revoking API keys."""

import json
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="API keys.")


@app.command("list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """List all keys in the order of their making, as they come from the ledger."""
    from deploy.directory_access import redis_urls, with_directory
    from deploy.settings import LaunchSettings, read_settings
    from waitlist.directory import Directory

    async def print_keys(directory: Directory) -> None:
        async for key in directory.list_keys():
            row: dict[str, Any] = {
                "key_id": key.key_id,
                "hint": key.hint,
                "account_id": key.account_id,
                "email": key.email,
                "plan": key.plan,
                "created_at": key.created_at.isoformat(timespec="seconds"),
                "revoked_at": key.revoked_at.isoformat(timespec="seconds")
                if key.revoked_at
                else None,
            }
            if as_json:
                typer.echo(json.dumps(row))
            else:
                # Columns by tabs: a table would have to hold a million keys before its first line.
                typer.echo("\t".join("-" if cell is None else str(cell) for cell in row.values()))

    with_directory(redis_urls(read_settings(LaunchSettings).folders()), print_keys)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id (key_…), from `keys list`.")],
) -> None:
    """Revoke a key. It holds from the key's next request on."""
    from deploy.directory_access import redis_urls, with_directory
    from deploy.errors import Refused
    from deploy.settings import LaunchSettings, read_settings

    urls = redis_urls(read_settings(LaunchSettings).folders())
    revocation = with_directory(urls, lambda directory: directory.revoke_key(key_id))
    if revocation is None:
        raise Refused(f"There is no key {key_id}.", "`floodgate keys list` shows all key ids.")
    if revocation.tombstone_error:
        raise Refused(
            f"The key is revoked in the ledger, but the flow Redis could not be told: "
            f"{revocation.tombstone_error}",
            "Running workers may accept it for some seconds more. Run this again to try again.",
        )
    typer.echo(f"Revoked {key_id} of {revocation.account_id}.")
