"""The replica record, version 1: what the gateway reads."""

import json

import pytest

from serving.flow import redis_keys
from serving.flow.record import EngineLoad, ReplicaFacts, endpoints_of, record_json

FACTS = ReplicaFacts(
    model="smollm2",
    replica_id="rilzilrt",
    context_tokens_max=8192,
    endpoints=("chat/completions", "completions"),
    output_tokens_default=256,
    tokenizer="/models/smollm2",
    template_tokens=34,
    adapters=("poet",),
)


def test_the_whole_record() -> None:
    text = record_json(
        FACTS,
        url="http://127.0.0.1:30000",
        state="running",
        slots=32,
        load=EngineLoad(running=3, waiting=1, kv_use=0.25, preemptions=2, generation_tokens=9),
        generation_tokens_per_s=123.456,
        published_at_ms=1_790_000_000_000,
    )
    assert json.loads(text) == {
        "version": 1,
        "model": "smollm2",
        "replica_id": "rilzilrt",
        "url": "http://127.0.0.1:30000",
        "state": "running",
        "slots": 32,
        "context_tokens_max": 8192,
        "output_tokens_default": 256,
        "endpoints": ["chat/completions", "completions"],
        "tokenizer": "/models/smollm2",
        "template_tokens": 34,
        "adapters": ["poet"],
        "engine": {
            "running": 3,
            "waiting": 1,
            "kv_use": 0.25,
            "preemptions": 2,
            "generation_tokens": 9,
            "prompt_tokens": 0,
            "generation_tokens_per_s": 123.5,
        },
        "published_at_ms": 1_790_000_000_000,
    }


@pytest.mark.parametrize(
    ("tasks", "has_chat_template", "endpoints"),
    [
        (("generate",), True, {"chat/completions", "responses", "messages", "completions"}),
        (("generate",), False, {"completions"}),
        (("embed",), True, {"embeddings"}),
        (("embed", "classify"), False, {"embeddings"}),
        (("transcription",), False, set()),
        ((), True, set()),
    ],
)
def test_endpoints(tasks: tuple[str, ...], has_chat_template: bool, endpoints: set[str]) -> None:
    assert set(endpoints_of(tasks, has_chat_template=has_chat_template)) == endpoints


def test_both_keys_of_a_replica_share_their_hash_tag() -> None:
    assert redis_keys.replica_record("m", "r") == "fg:replica:{m}:r"
    assert redis_keys.model_replicas("m") == "fg:replicas:{m}"
