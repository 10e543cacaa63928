"""Serving writes the replica record and the gateway reads it: both sides of the one contract.

The engine simulator writes it too, and leaves nothing out.
"""

import json
from typing import Any

import pytest

from gateway.engines.replica_record import parse_model, parse_record
from loadtests.engine_simulator import records as simulated_records
from loadtests.engine_simulator.profile import load_profile
from loadtests.engine_simulator.replica import Replica as SimulatedReplica
from serving.flow.record import (
    EngineLoad,
    ReplicaFacts,
    ReplicaState,
    endpoints_of,
    model_record_json,
    record_json,
)

pytestmark = pytest.mark.contract

FACTS = ReplicaFacts(
    model="smollm2",
    replica_id="abc123",
    context_tokens_max=8192,
    output_tokens_default=256,
    endpoints=endpoints_of({"generate"}, has_chat_template=True),
    tokenizer="/models/smollm2",
    template_tokens=34,
    adapters=("poet", "诗人"),
)


def published(state: ReplicaState, url: str) -> str:
    load = EngineLoad(running=3, waiting=1, kv_use=0.25, generation_tokens=7, prompt_tokens=9)
    return record_json(
        FACTS,
        url=url,
        state=state,
        slots=32,
        load=load,
        generation_tokens_per_s=99.5,
        published_at_ms=1_790_000_000_000,
    )


def simulated() -> str:
    replica = SimulatedReplica(
        0,
        load_profile("instant"),
        model=FACTS.model,
        slots=32,
        speed=1.0,
        answer_tokens_mean=100,
        seed=1,
        clock=lambda: 0.0,
    )
    replica.url = "http://127.0.0.1:30000"
    return simulated_records.record_json(
        replica, generation_tokens_per_s=99.54, published_at_ms=1_790_000_000_000
    )


def shape(part: Any) -> Any:
    """Names and types, without the values."""
    if isinstance(part, dict):
        return {name: shape(each) for name, each in part.items()}
    return type(part)


@pytest.mark.parametrize(
    ("state", "url"),
    [("starting", ""), ("running", "http://127.0.0.1:30000"), ("draining", "http://[::1]:30000")],
)
def test_the_gateway_reads_what_a_replica_writes(state: ReplicaState, url: str) -> None:
    replica = parse_record(published(state, url))
    assert replica is not None
    assert (replica.state, replica.url) == (state, url)
    assert (replica.model, replica.replica_id) == (FACTS.model, FACTS.replica_id)
    assert (replica.slots, replica.context_tokens_max) == (32, 8192)
    assert replica.output_tokens_default == 256
    assert (replica.tokenizer, replica.template_tokens) == ("/models/smollm2", 34)
    assert replica.adapters == {"poet", "诗人"}
    assert replica.endpoints == {"chat/completions", "completions", "responses", "messages"}
    assert (replica.engine.running, replica.engine.waiting, replica.engine.kv_use) == (3, 1, 0.25)
    assert replica.engine.generation_tokens_per_s == 99.5


def test_the_simulator_writes_the_whole_record() -> None:
    record, of_serving = json.loads(simulated()), published("running", "http://127.0.0.1:30000")
    assert shape(record) == shape(json.loads(of_serving))
    replica = parse_record(simulated())
    assert replica is not None
    assert (replica.slots, replica.tokenizer, replica.adapters) == (32, "", frozenset())
    assert replica.engine.generation_tokens_per_s == 99.5


def test_a_record_without_a_tokenizer_or_adapters_is_read_as_before() -> None:
    record = json.loads(published("running", "http://127.0.0.1:30000"))
    del record["tokenizer"], record["adapters"]
    replica = parse_record(json.dumps(record))
    assert replica is not None
    assert replica.tokenizer == ""
    assert replica.adapters == frozenset()


def test_a_record_that_does_not_tell_tokens_a_second_is_read_as_before() -> None:
    record = json.loads(published("running", "http://127.0.0.1:30000"))
    del record["engine"]["generation_tokens_per_s"]
    replica = parse_record(json.dumps(record))
    assert replica is not None
    assert (replica.engine.running, replica.engine.generation_tokens_per_s) == (3, None)


@pytest.mark.parametrize("wanted", [0, 1, 64])
def test_the_gateway_reads_how_many_replicas_a_model_is_to_have(wanted: int) -> None:
    model = parse_model(model_record_json(replicas_wanted=wanted, replicas_max=64))
    assert model is not None
    assert model.replicas_wanted == wanted
    assert (model.context_tokens_max, model.endpoints, model.tokenizer) == (None, frozenset(), "")


def test_the_gateway_reads_what_a_model_is_while_it_has_no_replica() -> None:
    facts = json.loads(published("running", "http://127.0.0.1:30000"))
    model = parse_model(model_record_json(replicas_wanted=0, replicas_max=4, facts=facts))
    assert model is not None
    assert (model.context_tokens_max, model.template_tokens) == (8192, 34)
    assert model.output_tokens_default == 256
    assert (model.tokenizer, model.endpoints) == ("/models/smollm2", frozenset(FACTS.endpoints))


def test_the_gateway_reads_why_no_replica_starts() -> None:
    failed = model_record_json(replicas_wanted=1, replicas_max=1, start_failure="no memory")
    for text, reason in ((failed, "no memory"), ('{"version": 1, "replicas_wanted": 0}', "")):
        model = parse_model(text)
        assert model is not None
        assert model.start_failure == reason


def test_the_gateway_reads_which_adapters_a_model_is_to_have() -> None:
    asleep = model_record_json(replicas_wanted=0, replicas_max=1, adapters=("poet", "诗人"))
    for text, adapters in (
        (asleep, {"poet", "诗人"}),
        (model_record_json(replicas_wanted=0, replicas_max=1), frozenset()),
        ('{"version": 1, "replicas_wanted": 0}', frozenset()),
    ):
        model = parse_model(text)
        assert model is not None
        assert model.adapters == adapters


def test_a_running_replica_without_an_address_is_not_believed() -> None:
    assert parse_record(published("running", "")) is None


def test_both_sides_name_the_same_keys() -> None:
    from gateway.flow import redis_keys as read
    from serving.flow import redis_keys as written

    assert written.MODELS == read.MODELS
    assert written.PINS == read.PINS
    assert written.model_record("m") == read.model_record("m")
    assert written.model_replicas("m") == read.replica_index("m")
    assert written.demand("m") == read.demand("m")
    assert written.replica_record("m", "r") == read.replica_record_prefix("m") + "r"


def test_the_waitlist_and_the_gateway_name_the_same_revocations() -> None:
    from gateway.flow import redis_keys as read
    from waitlist.storage import redis_keys as written

    assert written.revoked_keys("acct_1") == read.revoked_keys("acct_1")
