"""settings: every FLOODGATE_* variable with its meaning."""

from pathlib import Path
from typing import Annotated

import typer


def settings(
    check: Annotated[
        Path | None, typer.Option(help="Compare with this file instead of printing.")
    ] = None,
) -> None:
    """Print all settings as an .env file with their defaults and meanings."""
    from deploy.env_example import env_example
    from deploy.errors import Refused

    text = env_example()
    if check is None:
        typer.echo(text, nl=False)
    elif not check.is_file() or check.read_text(encoding="utf-8") != text:
        raise Refused(f"{check} differs from the settings.", f"floodgate settings > {check}")
