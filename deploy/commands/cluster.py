"""cluster: what a Ray cluster of several nodes is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from deploy.commands.running import Model, ModelName, Replicas, set_variables

app = typer.Typer(
    help="Serve from a Ray cluster of several nodes: its config and its environment.",
    no_args_is_help=True,
)


@app.command()
def config(
    model: Model = None,
    model_name: ModelName = None,
    replicas: Replicas = None,
    proxy_port: Annotated[
        int, typer.Option(help="Port of Ray's own proxy on the head node; nobody needs it.")
    ] = 8000,
) -> None:
    """Print the config for `serve deploy`, with an application for each model.

    It has no secrets. Needs FLOODGATE_ACCELERATOR and FLOODGATE_REPLICA_HOST.
    """
    import yaml

    from deploy.settings import read_settings
    from serving.cluster.cluster_config import cluster_config
    from serving.models.models_file import read_models
    from serving.settings import ServingSettings

    set_variables(model=model, model_name=model_name, replicas=replicas)
    settings = read_settings(ServingSettings)
    with _refused():
        text = cluster_config(settings, read_models(settings), proxy_port=proxy_port)
    typer.echo(yaml.safe_dump(text, sort_keys=False), nl=False)


@app.command()
def env(model: Model = None) -> None:
    """Print the variables that every node of the cluster must be started with, as an env file.

    They hold the secrets of FLOODGATE_FLOW_URL and FLOODGATE_ENGINE_SECRET. RAY_AUTH_TOKEN is
    yours to add.
    """
    import shlex

    from deploy.settings import read_settings
    from serving.cluster.cluster_config import cluster_environment
    from serving.models.models_file import read_models
    from serving.settings import ServingSettings

    set_variables(model=model)
    settings = read_settings(ServingSettings)
    with _refused():
        variables = cluster_environment(settings, read_models(settings))
    for name, value in sorted(variables.items()):
        typer.echo(f"{name}={shlex.quote(value)}")


@contextmanager
def _refused() -> Iterator[None]:
    from deploy.errors import Refused
    from serving.errors import ServingError

    try:
        yield
    except ServingError as error:
        raise Refused(str(error)) from error
