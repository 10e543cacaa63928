"""The launcher's settings: read once from FLOODGATE_* at start, frozen, passed down."""

import math
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.errors import Refused
from deploy.home import Home

_Settings = TypeVar("_Settings", bound=BaseSettings)

# A stop that drains nothing must fit into 15 s: the gateway cuts answers after this long, and then
# the others follow.
_ABORTED_S_MAX = 3


class LaunchSettings(BaseSettings):
    """What `floodgate up` itself can be told; it hands the other settings on."""

    model_config = SettingsConfigDict(
        env_prefix="FLOODGATE_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    home: Path = Field(
        Path("~/.floodgate"), description="Folder for ledger, logs, model and what a run needs."
    )
    cache: Path | None = Field(
        None, description="Folder for the converted model; several homes may share it. Empty: HOME."
    )
    host: str = Field("0.0.0.0", description="Address the gateway listens on.")  # noqa: S104 - the one public door
    port: int = Field(8000, ge=1, le=65535, description="Port the gateway listens on.")
    model: str = Field(
        "",
        description="Model to serve: a folder, or a name on the Hugging Face hub. "
        "Empty: SmolLM2-135M-Instruct.",
    )
    stop_in_flight: Literal["abort", "drain"] = Field(
        "abort",
        description="What a stop does with requests inside the engine: end them at once (3 s after "
        "`floodgate down`), or let them finish within DRAIN_S_MAX.",
    )
    drain_s_max: float = Field(
        30.0, ge=0, description="Longest wait of a stop for requests to finish."
    )
    ledger_free_bytes_min: int = Field(
        256 * 2**20,
        ge=0,
        description="Free disk space, in bytes, below which the ledger takes no writes.",
    )
    check_memory: bool = Field(
        True, description="Refuse to start where memory looks too small for the engine."
    )

    @property
    def answers_s_max(self) -> int:
        """How long answers that run get at a stop. Those that it ends may still be told so."""
        return math.ceil(self.drain_s_max) if self.stop_in_flight == "drain" else _ABORTED_S_MAX

    def folders(self) -> Home:
        """The folders that these settings choose."""
        root = self.home.expanduser().absolute()
        return Home(root, self.cache.expanduser().absolute() if self.cache else root)


def read_settings(kind: type[_Settings], **given: Any) -> _Settings:
    """Settings from the environment, and from `given` where that is set.

    Raises:
        Refused: names each variable that is missing or wrong.
    """
    try:
        return kind(**given)
    except ValidationError as error:
        wrong = "; ".join(
            f"{_variable(part['loc'])}: {part['msg'].removeprefix('Value error, ')}"
            for part in error.errors(include_input=False, include_url=False)
        )
        raise Refused(
            f"These settings cannot be used: {wrong}.",
            "Correct them; `floodgate settings` lists all with their meaning.",
        ) from None


def _variable(location: tuple[int | str, ...]) -> str:
    return "FLOODGATE_" + str(location[0]).upper() if location else "FLOODGATE_*"
