"""Everything an operator can set about serving, read once and frozen.

Each field is the environment variable FLOODGATE_<FIELD>.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServingSettings(BaseSettings):
    """Settings of the Ray Serve side. Raises pydantic.ValidationError for a wrong value."""

    model_config = SettingsConfigDict(
        env_prefix="FLOODGATE_",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        protected_namespaces=(),
    )

    flow_url: SecretStr = Field(
        description="URL of the flow Redis, on which replicas publish themselves."
    )
    engine_secret: SecretStr = Field(
        min_length=16,
        description="Secret that a request must carry to be let into the engine; the launcher "
        "makes a new one for every run.",
    )
    home: Path = Field(
        default=Path("~/.floodgate"),
        description="Folder for the compile cache, models and ledger.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )

    models_file: Path | None = Field(
        default=None,
        description="YAML file of several models, each with settings of its own, followed as it "
        "changes; then MODEL and MODEL_NAME are not used.",
    )
    model: str = Field(
        default="",
        validate_default=True,
        description="Model to serve: a folder, or a name on the Hugging Face hub.",
    )
    model_name: str | None = Field(
        default=None,
        description="Name under which clients ask for the model; the last part of MODEL if empty.",
    )
    replicas: int = Field(
        default=1, ge=0, le=256, description="Number of vLLM replicas, at the start."
    )
    replicas_min: int | None = Field(
        default=None,
        ge=0,
        le=256,
        description="Fewest replicas; REPLICAS if empty. 0 lets a model sleep that nobody asks.",
    )
    replicas_max: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Most replicas, among which a machine's cores are shared out; REPLICAS if "
        "empty.",
    )
    machine_replicas_max: int | None = Field(
        default=None,
        ge=1,
        description="Most replicas of all models that a machine runs at once, among which its "
        "cores are shared out; the sum of their REPLICAS_MAX if empty.",
    )
    scale_up_wait_s: float = Field(
        default=20.0,
        gt=0,
        description="Wait in line beyond which replicas are added, once one more has started.",
    )
    scale_down_after_s: float = Field(
        default=300.0, ge=0, description="How long a replica must not be needed before it goes."
    )
    scale_to_zero_after_s: float = Field(
        default=900.0, ge=0, description="The same for the last one."
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field(
        default="auto", description="Hardware to run on; auto takes a GPU where there is one."
    )
    context_tokens_max: int | None = Field(
        default=None, ge=1, description="Longest prompt plus answer; the model's own if empty."
    )
    replica_slots: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Requests that one replica runs at once; max_num_seqs of ENGINE_ARGS, or 32 on "
        "CPU and 256 on GPU, if empty.",
    )
    replica_slots_min: int | None = Field(
        default=None,
        ge=1,
        description="What they may fall to when vLLM preempts or queues; a quarter if empty.",
    )
    replica_slots_max: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="What they may rise to when the line waits and vLLM has room; REPLICA_SLOTS "
        "if empty.",
    )
    replica_slots_standby: int | None = Field(
        default=None,
        ge=0,
        le=256,
        description="Slots offered beyond what vLLM batches, so that it has the next request when "
        "one ends; a sixteenth of REPLICA_SLOTS_MAX if empty.",
    )
    kv_cache_gib: float | None = Field(
        default=None,
        gt=0,
        description="KV cache of one replica in GiB; 2 on CPU, and on GPU what "
        "GPU_MEMORY_UTILIZATION leaves, if empty.",
    )
    gpu_memory_utilization: float = Field(
        default=0.9, gt=0, le=1, description="Share of the GPU's memory that vLLM may take."
    )
    engine_eager: bool | None = Field(
        default=None,
        description="Run without torch.compile: starts sooner, generates slower. "
        "Empty: eager on CPU, compiled on GPU.",
    )
    tensor_parallel: int = Field(
        default=1, ge=1, le=64, description="GPUs, or CPU workers, that share one replica."
    )
    cpu_threads: int | None = Field(
        default=None,
        ge=1,
        description="Compute threads of one CPU replica; an equal share of the cores if empty.",
    )
    cpu_binding: Literal["auto", "nobind", "disjoint"] = Field(
        default="auto",
        description="Pin each CPU replica to cores of its own (disjoint) or leave them to the "
        "kernel (nobind); auto pins only when several replicas share the machine.",
    )
    tool_call_parser: str | None = Field(
        default=None, description="vLLM's parser of the model's tool calls, for example hermes."
    )
    lora_modules: dict[str, str] = Field(
        default_factory=dict,
        description="LoRA adapters to serve beside the model, as a JSON object of name and folder.",
    )
    engine_args: dict[str, Any] = Field(
        default_factory=dict,
        description="Further vLLM engine arguments as a JSON object; they win over our own.",
    )

    replica_host: str = Field(
        default="127.0.0.1",
        description="Address that replicas listen on; other than loopback only in a cluster whose "
        "network policy lets nobody but the gateway reach it.",
    )
    replica_port_min: int = Field(
        default=30000, ge=1024, le=64000, description="First of the 1000 ports for replicas."
    )
    start_s_max: float = Field(
        default=900.0,
        gt=0,
        description="Longest wait for the replicas to be ready. One that starts later, in place of "
        "another or as one more, is ended after so long, and another one started.",
    )
    engine_hang_s_max: float = Field(
        default=60.0,
        gt=0,
        description="An engine that has work and does nothing for so long is killed and started "
        "anew. Longer than its longest step.",
    )
    stop_in_flight: Literal["abort", "drain"] = Field(
        default="abort",
        description="What a stop does with requests inside the engine: end them at once, or let "
        "them finish within DRAIN_S_MAX.",
    )
    drain_s_max: float = Field(
        default=30.0, ge=0, description="Longest wait of a stop for requests to finish."
    )
    stream_life_s_max: float = Field(
        default=600.0,
        gt=0,
        description="Longest life of one answer; a replica that is scaled away waits this long.",
    )

    @property
    def least_replicas(self) -> int:
        """Fewest replicas, however little is asked for."""
        return self.replicas if self.replicas_min is None else self.replicas_min

    @property
    def most_replicas(self) -> int:
        """Most replicas, however much is asked for; at least one."""
        return max(1, self.replicas) if self.replicas_max is None else self.replicas_max

    @property
    def cores_shared_by(self) -> int:
        """How many replicas a machine's cores are shared out among."""
        return self.machine_replicas_max or self.most_replicas

    @field_validator("model")
    @classmethod
    def _some_model_is_named(cls, model: str, others: ValidationInfo) -> str:
        if not model and others.data.get("models_file") is None:
            raise ValueError("must name a model, or MODELS_FILE a file of several")
        return model

    @field_validator("engine_args")
    @classmethod
    def _batch_is_a_number(cls, engine_args: dict[str, Any]) -> dict[str, Any]:
        batched = engine_args.get("max_num_seqs", 1)
        if type(batched) is not int or batched < 1:
            raise ValueError(f"max_num_seqs must be a whole number of requests, not {batched!r}")
        return engine_args

    @model_validator(mode="after")
    def _replicas_are_in_order(self) -> Self:
        if not self.least_replicas <= self.replicas <= self.most_replicas:
            raise ValueError(
                "REPLICAS_MIN, REPLICAS and REPLICAS_MAX must be in this order: "
                f"{self.least_replicas}, {self.replicas}, {self.most_replicas}"
            )
        return self

    @model_validator(mode="after")
    def _slots_are_in_order_and_batched(self) -> Self:
        slots = (self.replica_slots_min, self.replica_slots, self.replica_slots_max)
        given = [number for number in slots if number is not None]
        if given != sorted(given):
            raise ValueError(
                "REPLICA_SLOTS_MIN, REPLICA_SLOTS and REPLICA_SLOTS_MAX must be in this order: "
                + ", ".join("empty" if number is None else str(number) for number in slots)
            )
        batched = self.engine_args.get("max_num_seqs")
        if batched and given and given[-1] > batched and None in slots[:2]:
            raise ValueError(
                f"{given[-1]} slots are more than max_num_seqs in ENGINE_ARGS, {batched}: the rest "
                "would queue inside vLLM. Leave max_num_seqs out, it follows the slots; to have "
                "requests queue there, set REPLICA_SLOTS and REPLICA_SLOTS_MIN"
            )
        return self

    @property
    def served_name(self) -> str:
        """The name that clients use."""
        return self.model_name or self.model.rstrip("/").rsplit("/", 1)[-1]

    @property
    def replica_ports(self) -> range:
        """The ports that replicas listen on."""
        return range(self.replica_port_min, self.replica_port_min + 1000)
