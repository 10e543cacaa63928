"""The gateway's settings: read once from FLOODGATE_* at start, frozen, passed down."""

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.connection.client_address import trusted_networks


class GatewaySettings(BaseSettings):
    """Everything that the gateway can be told.

    Raises:
        pydantic.ValidationError: a value is missing, malformed or out of bounds.
    """

    model_config = SettingsConfigDict(
        env_prefix="FLOODGATE_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    host: str = Field("0.0.0.0", description="Address the gateway listens on.")  # noqa: S104 - the one public door
    port: int = Field(8000, ge=1, le=65535, description="Port the gateway listens on.")
    workers: int = Field(1, ge=1, le=64, description="Gateway worker processes.")

    ledger_url: SecretStr = Field(description="Ledger Redis: codes, accounts, keys. redis://…")
    # A write with an fsync takes a millisecond; two seconds is a disk in trouble.
    ledger_deadline_s: float = Field(
        2.0, gt=0, le=30, description="Longest wait for one answer of the ledger Redis."
    )
    flow_url: SecretStr = Field(description="Flow Redis: rate limits, slots, capacity. redis://…")
    flow_deadline_s: float = Field(
        0.25, gt=0, le=10, description="Longest wait for one answer of the flow Redis."
    )

    engine_secret: SecretStr = Field(
        SecretStr(""),
        description="Secret between gateway and replicas; made at random by `floodgate up`.",
    )
    upstream_url: str = Field(
        "",
        description="An OpenAI-compatible server to put the gate in front of, instead of "
        "Floodgate's own replicas. http://host:port, without /v1.",
    )
    upstream_api_key: SecretStr = Field(
        SecretStr(""), description="Bearer key that FLOODGATE_UPSTREAM_URL wants."
    )
    slots: int = Field(
        64, ge=1, description="How many requests FLOODGATE_UPSTREAM_URL may run at once."
    )

    plans_file: Path | None = Field(
        None,
        description="YAML file of the plans; changes are taken over while the gateway runs. "
        "Empty: the packaged one (gateway/limits/plans.yaml).",
    )
    routes_file: Path | None = Field(
        None,
        description="YAML file of further names for models, and of canaries; changes are taken "
        "over while the gateway runs. Empty: none.",
    )
    tokenizer: str = Field(
        "",
        description="Folder with the tokenizer.json that counts prompts where a replica names none "
        "that is here. Empty: bytes are counted.",
    )
    # Qwen 2.5 VL makes this many of an image that it does not scale down; others stay far below.
    media_tokens: int = Field(
        16_384,
        ge=0,
        description="Prompt tokens reserved for one image, sound or film, at most the context; "
        "corrected to the engine's count. What your model makes of its largest image.",
    )
    key_cache_s: float = Field(
        5.0, ge=0, le=300, description="How long a worker trusts a key that it has looked up."
    )
    key_stale_s_max: float = Field(
        300.0, ge=0, description="How long known keys go on while the ledger is gone."
    )

    body_bytes_max: int = Field(
        4 * 1024 * 1024, ge=1024, description="Largest request body, in bytes."
    )
    choices_max: int = Field(
        8,
        ge=1,
        le=128,
        description="Answers that one request may ask for: n times prompts. All run in one slot.",
    )
    embedding_inputs_max: int = Field(
        2048, ge=1, le=2048, description="Inputs that one embeddings request may have."
    )
    header_bytes_max: int = Field(
        32 * 1024, ge=1024, description="Largest request line and headers together, in bytes."
    )
    header_time_s_max: float = Field(
        10.0, gt=0, description="Longest time a client may take to send its headers."
    )
    body_time_s_max: float = Field(
        30.0, gt=0, description="Longest time a client may take to send its body."
    )
    stream_life_s_max: float = Field(
        600.0,
        gt=0,
        description="Longest life of one answer, from dispatch to its last byte; one for both "
        "where a second replica is asked.",
    )
    write_stall_s_max: float = Field(
        60.0,
        gt=0,
        description="Longest time a client may leave an answer unread before it is cut off.",
    )
    queue_length_max: int = Field(
        10_000, ge=0, description="Requests that may wait for one model, over all gateways."
    )
    queue_wait_s_max: float = Field(
        300.0,
        gt=0,
        description="Longest wait of one request in line, in seconds, for all slots that it is "
        "granted; then 503 and a kept place.",
    )
    queue_bytes_max: int = Field(
        256 * 1024 * 1024, ge=0, description="Bodies that one worker holds for waiting requests."
    )
    queue_notices: bool = Field(
        True,
        description="Tell waiting callers their place: comments in streams, white space before "
        "JSON. `x-floodgate-notices: off` turns it off for one request.",
    )
    queue_notice_stream_s: float = Field(
        1.0, ge=0, description="Wait after which a stream first hears of its place."
    )
    queue_notice_json_s: float = Field(
        20.0, ge=0, description="Wait after which a caller who does not stream gets white space."
    )
    queue_notice_every_s: float = Field(
        3.0, gt=0, description="Time between two notices; they may come a second or two later."
    )
    cache_salt_secret: SecretStr = Field(
        SecretStr(""),
        description="Keeps accounts apart in the engine's prefix cache; the same for all gateways. "
        "Empty: FLOODGATE_ENGINE_SECRET. Both empty: accounts share the cache.",
    )
    prefix_affinity: bool = Field(
        True,
        description="Send a conversation to the replica that has its beginning in its prefix "
        "cache, unless that makes it wait.",
    )
    keep_alive_s: int = Field(75, ge=1, description="How long an idle connection is kept.")
    gateway_drain_s_max: int = Field(
        5, ge=0, description="Longest time running answers get to finish when the gateway stops."
    )
    replaced_drain_s_max: int = Field(
        600, ge=0, description="The same for a worker that SIGHUP replaces by a new one."
    )

    trusted_proxies: str = Field(
        "",
        description="Networks of the proxies in front, comma-separated (10.0.0.0/8, ::1). Only "
        "they are believed when they say for whom they ask (X-Forwarded-For, Forwarded).",
    )

    metrics_token: SecretStr = Field(
        SecretStr(""),
        description="Bearer token for /metrics. Without it only loopback may read /metrics.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="JSON lines, or text for people; auto: text on a terminal."
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks_are_networks(cls, value: str) -> str:
        trusted_networks(value)
        return value

    @model_validator(mode="after")
    def _urls_have_schemes(self) -> "GatewaySettings":
        if self.upstream_url and not self.upstream_url.startswith(("http://", "https://")):
            raise ValueError("FLOODGATE_UPSTREAM_URL must start with http:// or https://")
        if "@" in urlsplit(self.upstream_url).netloc:
            raise ValueError(
                "FLOODGATE_UPSTREAM_URL must not hold a user or a password: "
                "a key for that server goes into FLOODGATE_UPSTREAM_API_KEY"
            )
        for name in ("ledger_url", "flow_url"):
            url: SecretStr = getattr(self, name)
            if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
                # The value is not quoted: it holds a password.
                raise ValueError(
                    f"FLOODGATE_{name.upper()} must look like redis://:password@host:6379/0"
                )
        return self
