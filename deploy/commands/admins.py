"""admins: keys for the operators' API."""

from typing import Annotated, Literal

import typer

from deploy.commands.rows import Json, print_rows

app = typer.Typer(no_args_is_help=True, help="Keys for the operators' API.")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    role: Annotated[
        Literal["viewer", "operator", "owner"],
        typer.Option(help="viewer reads; operator lets people in; owner does the rest."),
    ] = "viewer",
) -> None:
    """Make an operator's key. Shown this once."""
    from deploy.directory_access import on_waitlist

    typer.echo(on_waitlist(lambda directory: directory.admins.add(name, role)).admin_key)


@app.command("list")
def list_admins(as_json: Json = False) -> None:
    """Operators' keys, newest first."""
    from dataclasses import asdict

    from deploy.directory_access import on_waitlist

    rows = on_waitlist(lambda directory: directory.admins.list_all())
    print_rows((asdict(row) for row in rows), as_json=as_json, heading=True)


@app.command()
def revoke(admin_id: Annotated[str, typer.Argument(help="adm_…, from `admins list`.")]) -> None:
    """Revoke an operator's key. It holds from its next request on."""
    from deploy.directory_access import on_waitlist

    on_waitlist(lambda directory: directory.admins.revoke(admin_id))
    typer.echo(f"Revoked {admin_id}.")
