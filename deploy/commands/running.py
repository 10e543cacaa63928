"""up, down, status: Floodgate on this machine."""

import json
import os
from typing import Annotated

import typer

Model = Annotated[
    str | None, typer.Option(help="Model to serve: a folder, or a name on the Hugging Face hub.")
]
ModelName = Annotated[str | None, typer.Option(help="Name under which clients ask for the model.")]
Replicas = Annotated[int | None, typer.Option(min=1, help="vLLM replicas.")]
Host = Annotated[str | None, typer.Option(help="Address the gateway listens on.")]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the gateway.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes of the gateway.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def up(
    model: Model = None,
    model_name: ModelName = None,
    replicas: Replicas = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
) -> None:
    """Start everything, print how to chat, and stay until Ctrl-C or `floodgate down`."""
    from rich.console import Console

    from deploy.launcher.up import up as run_up
    from deploy.settings import LaunchSettings, read_settings

    set_variables(
        model=model,
        model_name=model_name,
        replicas=replicas,
        host=host,
        port=port,
        workers=workers,
    )
    run_up(read_settings(LaunchSettings), Console())


def down() -> None:
    """Stop everything that `floodgate up` started, also after its launcher was killed."""
    from deploy.launcher.down import down as run_down
    from deploy.settings import LaunchSettings, read_settings

    home = read_settings(LaunchSettings).folders()
    stopped = run_down(home)
    typer.echo("Stopped." if stopped else f"Floodgate does not run in {home.root}.")


def status(as_json: Json = False) -> None:
    """Show what runs, on which ports, and the engine's replicas."""
    from rich.console import Console

    from deploy.errors import NotRunning
    from deploy.launcher.status import print_status, read_status
    from deploy.settings import LaunchSettings, read_settings

    document = read_status(read_settings(LaunchSettings).folders())
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        print_status(Console(), document)
    if not document["running"]:
        raise typer.Exit(NotRunning.exit_code)


def set_variables(**options: str | int | None) -> None:
    """Options win over the environment: they become its variables, for children too."""
    for name, value in options.items():
        if value is not None:
            os.environ[f"FLOODGATE_{name.upper()}"] = str(value)
