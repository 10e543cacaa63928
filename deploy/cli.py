"""The `floodgate` command."""

import os
import sys

import typer

from deploy.commands import (
    accounts,
    admins,
    campaigns,
    cluster,
    invites,
    keys,
    ledger,
    parts,
    release,
    running,
    waitlist,
)
from deploy.commands.scale import scale
from deploy.commands.settings import settings
from deploy.errors import DeployError

app = typer.Typer(
    name="floodgate",
    help="Language models for a crowd: invite codes, fair limits, vLLM replicas behind one gate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(running.up)
app.command()(running.down)
app.command()(running.status)
app.add_typer(invites.app, name="invites")
app.add_typer(keys.app, name="keys")
app.add_typer(ledger.app, name="ledger")
app.add_typer(release.app, name="release")
app.add_typer(waitlist.app, name="waitlist")
app.add_typer(campaigns.app, name="campaigns")
app.add_typer(accounts.app, name="accounts")
app.add_typer(admins.app, name="admins")
app.add_typer(cluster.app, name="cluster")
app.command()(scale)
app.command()(parts.gateway)
app.command()(parts.serving)
app.command()(settings)

_INTERRUPTED = 130


def main() -> None:
    """Runs a command. What can go wrong in operation is told in two lines, without a traceback."""
    try:
        read_env_file()
        app()
    except DeployError as error:
        sys.stderr.write(f"floodgate: {error.message}\n")
        if error.remedy:
            sys.stderr.write(f"  {error.remedy}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        # `floodgate keys list | head` is no error; Python would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_env_file() -> None:
    """Takes FLOODGATE_* from ./.env where there is one; what the environment has stays."""
    if not os.path.exists(".env"):  # noqa: PTH110 - pathlib would cost every start 10 ms more
        return
    from dotenv import dotenv_values

    for name, value in dotenv_values(".env").items():
        if name.startswith("FLOODGATE_") and value is not None:
            os.environ.setdefault(name, value)


if __name__ == "__main__":
    main()
