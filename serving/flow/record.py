"""The records that a replica, and whoever keeps a model's replicas, publish once a second. Pure.

A replica, version 1:

    {"version": 1, "model": "smollm2", "replica_id": "rilzilrt",
     "url": "http://127.0.0.1:30000", "state": "running", "slots": 32,
     "context_tokens_max": 8192, "output_tokens_default": 0,
     "endpoints": ["chat/completions", ...],
     "tokenizer": "/models/smollm2", "template_tokens": 34, "adapters": [],
     "engine": {"running": 0, "waiting": 0, "kv_use": 0.0, "preemptions": 0,
                "generation_tokens": 0, "prompt_tokens": 0,
                "generation_tokens_per_s": 0.0},
     "published_at_ms": 1790000000000}

`url` is empty while the state is "starting"; `output_tokens_default` is the largest answer where a
caller names none, as the model's publisher has set it, or 0; `tokenizer` is a folder on the
replica's machine, or empty; `template_tokens` is what the chat template puts around one empty
message (a default instruction may be a thousand tokens long), 0 where it is not known; `adapters`
are the names of LoRA adapters that are served beside the model, in the same slots.

`slots` is what the replica offers now. Counters count since the replica started; `kv_use` is the
used share of the KV cache, 0 to 1; `generation_tokens_per_s` is the mean of the last five seconds.

A model, version 1, by which one that is scaled to zero is told from one whose serving is dead:

    {"version": 1, "replicas_wanted": 2, "replicas_max": 4, "adapters": [],
     "context_tokens_max": 8192, "output_tokens_default": 0,
     "endpoints": ["chat/completions", ...],
     "tokenizer": "/models/smollm2", "template_tokens": 34, "start_failure": ""}

From `context_tokens_max` to `template_tokens` it is what its replicas said of themselves last, for
as long as there are none. `start_failure` says why none of them could start, until one starts.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

RECORD_VERSION = 1

RECORD_LIFE_MS = 5000
"""A replica that is silent for so long is taken for gone: five missed records."""

ReplicaState = Literal["starting", "running", "draining"]


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What vLLM counts about itself."""

    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0
    preemptions: int = 0
    generation_tokens: int = 0
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """What stays the same for as long as a replica lives."""

    model: str
    replica_id: str
    context_tokens_max: int
    endpoints: tuple[str, ...]
    output_tokens_default: int = 0
    tokenizer: str = ""
    template_tokens: int = 0
    adapters: tuple[str, ...] = ()


def record_json(
    facts: ReplicaFacts,
    *,
    url: str,
    state: ReplicaState,
    slots: int,
    load: EngineLoad,
    generation_tokens_per_s: float = 0.0,
    published_at_ms: int,
) -> str:
    """The record as compact JSON."""
    record = {
        "version": RECORD_VERSION,
        "model": facts.model,
        "replica_id": facts.replica_id,
        "url": url,
        "state": state,
        "slots": slots,
        "context_tokens_max": facts.context_tokens_max,
        "output_tokens_default": facts.output_tokens_default,
        "endpoints": list(facts.endpoints),
        "tokenizer": facts.tokenizer,
        "template_tokens": facts.template_tokens,
        "adapters": list(facts.adapters),
        "engine": {
            **asdict(load),
            "generation_tokens_per_s": round(generation_tokens_per_s, 1),
        },
        "published_at_ms": published_at_ms,
    }
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)


MODEL_FACTS = (
    "context_tokens_max",
    "output_tokens_default",
    "endpoints",
    "tokenizer",
    "template_tokens",
)
"""Of a replica's record, what holds for the model also while it has no replica."""


def model_record_json(
    *,
    replicas_wanted: int,
    replicas_max: int,
    adapters: tuple[str, ...] = (),
    facts: Mapping[str, Any] | None = None,
    start_failure: str = "",
) -> str:
    """The model's record as compact JSON. `facts`: a replica's record, or part of one."""
    record = {
        "version": RECORD_VERSION,
        "replicas_wanted": replicas_wanted,
        "replicas_max": replicas_max,
        "adapters": list(adapters),
        **{name: facts[name] for name in MODEL_FACTS if facts and name in facts},
        "start_failure": start_failure,
    }
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)


def endpoints_of(tasks: Collection[str], *, has_chat_template: bool) -> tuple[str, ...]:
    """The paths below /v1/ that a model can answer.

    `tasks` are vLLM's names ("generate", "embed", ...). A model without a chat template completes
    text, but vLLM refuses every conversation with it.
    """
    endpoints: list[str] = []
    if "generate" in tasks:
        if has_chat_template:
            endpoints += ["chat/completions", "responses", "messages"]
        endpoints.append("completions")
    if "embed" in tasks:
        endpoints.append("embeddings")
    return tuple(endpoints)
