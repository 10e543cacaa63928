"""scale: how many replicas a model has, is to have, and may have."""

from typing import Annotated

import typer

from deploy.commands.rows import Json, print_rows
from deploy.errors import Refused


def scale(
    model: Annotated[str, typer.Argument(help="Only this one. Empty: show all.")] = "",
    replicas: Annotated[
        str, typer.Argument(help="A number pins it; auto leaves it to its line again.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Show how many replicas each model has, or pin one to a number of them.

    A pin holds until it is taken back, whatever the line asks for, within FLOODGATE_REPLICAS_MAX.
    Replicas that are too many finish what they answer.
    """
    from deploy.directory_access import on_waitlist, redis_urls
    from deploy.model_records import read_models
    from deploy.settings import LaunchSettings, read_settings

    _, flow_url = redis_urls(read_settings(LaunchSettings).folders())
    models = {found.model: found for found in read_models(flow_url)}
    if model and model not in models:
        raise Refused(f"No model {model!r} is served.", f"Served: {', '.join(models) or 'none'}.")
    if replicas:
        pin = None if replicas == "auto" else _number(replicas, models[model].replicas_max)
        on_waitlist(lambda directory: directory.replica_pins.set(model, pin))
    pins = on_waitlist(lambda directory: directory.replica_pins.all())
    print_rows(
        (
            {
                "model": found.model,
                "running": found.running,
                "wanted": found.replicas_wanted,
                "max": found.replicas_max,
                "pinned": pins.get(found.model),
                "start_failure": found.start_failure or None,
            }
            for found in models.values()
            if found.model == model or not model
        ),
        as_json=as_json,
        heading=True,
    )


def _number(text: str, most: int | None) -> int:
    """Raises Refused."""
    if not text.isdecimal():
        raise Refused(f"{text!r} is no number of replicas.", "Give a number, or auto.")
    if most is not None and int(text) > most:
        raise Refused(
            f"The model may have {most} replicas at most.",
            "Raise FLOODGATE_REPLICAS_MAX and start serving again.",
        )
    return int(text)
