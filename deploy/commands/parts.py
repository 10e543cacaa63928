"""gateway, serving: one part of Floodgate alone."""

import os
from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.running import Host, Model, ModelName, Port, Replicas, Workers, set_variables

PhaseFile = Annotated[
    Path | None, typer.Option(help="Append each step as a line of JSON to this file.")
]


def gateway(host: Host = None, port: Port = None, workers: Workers = None) -> None:
    """Run the gateway alone, in front of FLOODGATE_UPSTREAM_URL or of Floodgate's replicas.

    Needs FLOODGATE_LEDGER_URL and FLOODGATE_FLOW_URL.
    """
    from deploy.errors import Refused
    from deploy.settings import read_settings
    from gateway.errors import GatewayError
    from gateway.server import run
    from gateway.settings import GatewaySettings
    from waitlist.settings import WaitlistSettings

    set_variables(host=host, port=port, workers=workers)
    read_settings(WaitlistSettings)  # the workers read it themselves; a fault is told here
    try:
        run(read_settings(GatewaySettings))
    except GatewayError as error:
        raise Refused(str(error)) from error


def serving(
    model: Model = None,
    model_name: ModelName = None,
    replicas: Replicas = None,
    phase_file: PhaseFile = None,
) -> None:
    """Run Ray Serve and the vLLM replicas alone.

    Needs FLOODGATE_FLOW_URL, FLOODGATE_ENGINE_SECRET and a model.
    """
    from deploy import machine
    from deploy.errors import Refused
    from deploy.launcher.phase_file import PhaseWriter
    from deploy.settings import read_settings
    from serving.errors import ServingError
    from serving.server import run
    from serving.settings import ServingSettings

    set_variables(model=model, model_name=model_name, replicas=replicas)
    if not machine.can_compile():
        # Only vLLM's sampler would be compiled, and without this it ends the engine instead.
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    writer = PhaseWriter(phase_file) if phase_file else None

    def on_phase(text: str) -> None:
        typer.echo(text)
        if writer:
            writer.phase(text)

    try:
        try:
            run(read_settings(ServingSettings), on_phase)
        except ServingError as error:
            raise Refused(str(error)) from error
    except Exception as error:
        # The launcher shows this one line; what is not ours keeps its traceback for the log.
        if writer:
            writer.error(str(error) or type(error).__name__)
        raise
