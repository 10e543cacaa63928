"""Where a bench finds and keeps what outlives its run. Read once, in `loadtests.bench`."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class BenchSettings(BaseSettings):
    """The benches' own settings; the parts under test read theirs from the environment given."""

    model_config = SettingsConfigDict(
        env_prefix="FLOODGATE_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    home: Path = Field(
        default=Path.home() / ".floodgate",
        description="Folder for everything Floodgate keeps: model, caches, ledger, peers' "
        "virtual environments.",
    )
    cache: Path | None = Field(
        default=None,
        description="Folder for the converted model; several homes may share it. Empty: HOME.",
    )

    @field_validator("home", "cache")
    @classmethod
    def _without_tilde(cls, folder: Path | None) -> Path | None:
        return folder.expanduser() if folder else None

    @property
    def cache_folder(self) -> Path:
        """Where the converted model is."""
        return self.cache or self.home

    @property
    def tokenizer(self) -> Path | None:
        """The default model's folder, where an earlier start has left it: it has a tokenizer."""
        folder = self.cache_folder / "models" / "smollm2-135m-instruct"
        return folder if (folder / "tokenizer.json").exists() else None

    @property
    def peers(self) -> Path:
        """Folder that holds one virtual environment per peer and version."""
        return self.home / "bench" / "peers"
