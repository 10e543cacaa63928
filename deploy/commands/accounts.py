"""accounts: what operators see and change of an account."""

from typing import Annotated

import typer

from deploy.commands.rows import Json, print_record

app = typer.Typer(no_args_is_help=True, help="Accounts: plan, invites to hand on, revoking.")

AccountId = Annotated[str, typer.Argument(help="acct_…, from `keys list` or `waitlist search`.")]


@app.command()
def show(account_id: AccountId, as_json: Json = False) -> None:
    """One account, with what it handed on."""
    from dataclasses import asdict

    from deploy.directory_access import on_waitlist
    from waitlist.directory import Directory
    from waitlist.storage.records import AccountRecord

    async def read(directory: Directory) -> AccountRecord:
        account = await directory.accounts.read(account_id)
        await directory.overview.note("account_read", account_id)
        return account

    account = asdict(on_waitlist(read))
    account["invites"] = len(account["invites"])
    print_record(account, as_json=as_json)


@app.command()
def plan(account_id: AccountId, plan: Annotated[str, typer.Argument(help="The new plan.")]) -> None:
    """Change an account's plan. It holds within seconds."""
    from deploy.directory_access import on_waitlist

    on_waitlist(lambda directory: directory.accounts.set_plan(account_id, plan))
    typer.echo(f"{account_id} is on {plan}.")


@app.command()
def grant(
    account_id: AccountId,
    count: Annotated[int, typer.Argument(min=0, help="Invites it may hand on from now on.")],
) -> None:
    """Give an account invites to hand on."""
    from deploy.directory_access import on_waitlist

    on_waitlist(lambda directory: directory.accounts.grant_invites(account_id, count))
    typer.echo(f"{account_id} may hand on {count} invites.")


@app.command()
def branch(account_id: AccountId) -> None:
    """The account and all that came by its invites and theirs, one id a line."""
    from deploy.directory_access import on_waitlist
    from waitlist.directory import Directory

    async def print_branch(directory: Directory) -> None:
        await directory.accounts.read(account_id)
        async for current in directory.accounts.branch(account_id):
            typer.echo(current)

    on_waitlist(print_branch)


@app.command()
def revoke(
    account_id: AccountId,
    branch: Annotated[
        bool, typer.Option(help="Also all that came by its invites, and theirs.")
    ] = False,
) -> None:
    """Revoke an account with its keys and the codes that it handed on."""
    from deploy.directory_access import on_waitlist

    done = on_waitlist(
        lambda directory: (
            directory.accounts.revoke_branch(account_id)
            if branch
            else directory.accounts.revoke(account_id)
        )
    )
    typer.echo(f"Revoked {len(done.account_ids)} accounts with {done.keys} keys.")
    _check_tombstones(done.tombstone_error)


@app.command()
def erase(account_id: AccountId) -> None:
    """Revoke an account and erase its address and its place. The audit keeps a digest."""
    from deploy.directory_access import on_waitlist

    done = on_waitlist(lambda directory: directory.erase_account(account_id))
    typer.echo(f"Erased {account_id}, revoked with {done.keys} keys.")
    _check_tombstones(done.tombstone_error)


def _check_tombstones(error: str | None) -> None:
    from deploy.errors import Refused

    if error:
        raise Refused(
            f"The ledger holds it, but the flow Redis could not be told: {error}",
            "Running workers may accept the keys for some seconds more. Run this again.",
        )
