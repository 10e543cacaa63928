"""Where a bench keeps what it makes. Read once, in `loadtests.bench`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class BenchSettings(BaseSettings):
    """The benches' own settings; the parts under test read theirs from the environment given."""

    model_config = SettingsConfigDict(env_prefix="FLOODGATE_", frozen=True, extra="ignore")

    home: Path = Field(
        default=Path.home() / ".floodgate",
        description="Folder for everything Floodgate keeps: model, caches, ledger, peers' "
        "virtual environments.",
    )
    bench_results: Path = Field(
        default=Path("build/bench"),
        description="Folder that benches write their result files and profiles to.",
    )

    @property
    def peers(self) -> Path:
        """Folder that holds one virtual environment per peer and version."""
        return self.home / "bench" / "peers"
