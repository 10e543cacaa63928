"""The records of models and replicas, version 1, as serving publishes them (docs/architecture.md).

Pure.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class EngineState(BaseModel):
    """What vLLM says of itself at the replica."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0
    # The mean of the last seconds; None where the replica does not say.
    generation_tokens_per_s: float | None = None


class Replica(BaseModel):
    """One engine that requests can be sent to."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    model: str
    replica_id: str = Field(min_length=1)
    # Empty while the replica starts.
    url: str = Field(pattern=r"^(https?://.+)?$")
    state: Literal["starting", "running", "draining"]
    slots: int = Field(ge=0)
    context_tokens_max: int | None = None
    # The largest answer where a caller names none, as the model's publisher has set it; or 0.
    output_tokens_default: int = Field(0, ge=0)
    endpoints: frozenset[str] = frozenset()
    # Folder of the model's tokenizer on the replica's machine; empty where it has none.
    tokenizer: str = ""
    # What the chat template puts around one empty message.
    template_tokens: int = Field(0, ge=0)
    # LoRA adapters that are served beside the model, in the same slots.
    adapters: frozenset[str] = frozenset()
    engine: EngineState = EngineState()

    @property
    def tells_its_load(self) -> bool:
        """Whether `engine` is what the engine says; somebody else's server says nothing."""
        return "engine" in self.model_fields_set

    @model_validator(mode="after")
    def _running_has_an_address(self) -> "Replica":
        if self.state == "running" and not self.url:
            raise ValueError("a running replica must name its url")
        return self


class ModelRecord(BaseModel):
    """What whoever keeps a model's replicas says of it; the facts hold while there are none."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    replicas_wanted: int = Field(ge=0)
    replicas_max: int | None = None
    context_tokens_max: int | None = None
    output_tokens_default: int = Field(0, ge=0)
    endpoints: frozenset[str] = frozenset()
    tokenizer: str = ""
    template_tokens: int = Field(0, ge=0)
    adapters: frozenset[str] = frozenset()
    # Why none of the replicas that are wanted could start; they are tried again.
    start_failure: str = ""


def parse_model(text: str) -> ModelRecord | None:
    """The record of a model; None when nobody keeps its replicas (any more)."""
    try:
        return ModelRecord.model_validate_json(text)
    except ValidationError:
        return None


def parse_record(text: str) -> Replica | None:
    """The replica of a record, or None when the record is of another version or broken."""
    try:
        return Replica.model_validate_json(text)
    except ValidationError:
        return None
