from pathlib import Path

import orjson
import pytest

from gateway.engines.pools import Pool, PoolView
from gateway.engines.replica_record import ModelRecord, Replica, parse_model, parse_record
from gateway.errors import NotFound, Unavailable

RECORD = {
    "version": 1,
    "model": "m",
    "replica_id": "r1",
    "url": "http://127.0.0.1:30000",
    "state": "running",
    "slots": 4,
    "context_tokens_max": 2048,
    "endpoints": ["chat/completions"],
    "engine": {"running": 1, "waiting": 0, "kv_use": 0.5, "later": "field"},
    "published_at_ms": 1,
}


def record(**changes: object) -> str:
    return orjson.dumps({**RECORD, **changes}).decode()


def replica(**changes: object) -> Replica:
    found = parse_record(record(**changes))
    assert found is not None
    return found


def test_a_record_is_read_and_unknown_fields_are_left_aside() -> None:
    assert replica().slots == 4
    assert replica(news="later").engine.running == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "null",
        record(version=2),
        record(url="ftp://x"),
        record(slots=-1),
        record(state="?"),
    ],
)
def test_records_that_cannot_be_trusted_are_skipped(text: str) -> None:
    assert parse_record(text) is None


def test_only_running_replicas_with_slots_take_requests() -> None:
    pool = Pool(
        "m",
        (
            replica(replica_id="a"),
            replica(replica_id="b", state="draining"),
            replica(replica_id="c", state="starting"),
            replica(replica_id="d", slots=0),
        ),
    )
    assert [r.replica_id for r in pool.running] == ["a"]


@pytest.mark.parametrize(
    ("replicas", "wanted", "state"),
    [
        ((replica(),), None, "running"),
        ((replica(state="starting"),), None, "starting"),
        ((), 2, "starting"),
        ((), 0, "scaled_to_zero"),
        ((replica(state="draining"),), 0, "scaled_to_zero"),
        ((), None, "dead"),
    ],
)
def test_what_waiting_for_a_model_is_worth(
    replicas: tuple[Replica, ...], wanted: int | None, state: str
) -> None:
    keeper = None if wanted is None else ModelRecord(replicas_wanted=wanted)
    assert Pool("m", replicas, keeper).state == state


def test_a_model_that_sleeps_is_still_known_for_what_it_is(tmp_path: Path) -> None:
    asleep = ModelRecord(
        replicas_wanted=0,
        context_tokens_max=2048,
        output_tokens_default=256,
        endpoints=frozenset({"completions"}),
        tokenizer=str(tmp_path),
        template_tokens=9,
    )
    pool = Pool("m", (), asleep)
    assert (pool.context_tokens_max, pool.template_tokens) == (2048, 9)
    assert pool.output_tokens_default == 256
    assert list(pool.tokenizers) == [str(tmp_path)]
    assert pool.can_do("completions")
    assert not pool.can_do("chat/completions")
    awake = Pool("m", (replica(),), asleep)
    assert awake.can_do("chat/completions"), "its replicas know better"
    assert awake.output_tokens_default is None


@pytest.mark.parametrize("text", ["", "{}", "null", '{"version": 2, "replicas_wanted": 1}'])
def test_a_model_record_that_cannot_be_trusted_says_nothing(text: str) -> None:
    assert parse_model(text) is None


def test_unknown_models_and_unable_ones_are_told_apart() -> None:
    view = PoolView({"m": Pool("m", (replica(),))})
    assert view.pool_for("m", "chat/completions").name == "m"
    with pytest.raises(NotFound) as unknown:
        view.pool_for("other", "chat/completions")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(NotFound) as unable:
        view.pool_for("m", "embeddings")
    assert unable.value.code == "endpoint_not_supported"


def test_a_known_model_without_replicas_is_found_and_before_any_model_it_is_503() -> None:
    assert PoolView({"m": Pool("m")}).pool_for("m", "chat/completions").running == ()
    with pytest.raises(Unavailable):
        PoolView().pool_for("m", "chat/completions")


def with_adapters(*names: str, **changes: object) -> Replica:
    return replica(adapters=names, **changes)


def test_an_adapter_is_a_model_that_shares_its_bases_pool() -> None:
    pool = Pool("m", (with_adapters("poet", "cook"),))
    view = PoolView.of({"m": pool})
    assert sorted(view.by_model) == ["cook", "m", "poet"]
    assert view.pools() == (pool,)
    assert view.pool_for("poet", "chat/completions") is pool


def test_an_adapter_is_served_once_every_running_replica_has_it() -> None:
    first, second = with_adapters("old", "new"), with_adapters("old", replica_id="r2")
    other = with_adapters("new", replica_id="r3", state="draining")
    assert Pool("m", (first, second, other)).adapters == {"old"}


def test_the_adapters_of_a_model_that_sleeps_can_be_asked_for() -> None:
    sleeping = Pool("m", (), ModelRecord(replicas_wanted=0), frozenset({"poet"}))
    assert PoolView.of({"m": sleeping}).by_model["poet"].state == "scaled_to_zero"


def test_a_models_name_goes_before_an_adapters() -> None:
    first, second = Pool("m", (with_adapters("other"),)), Pool("other", (replica(),))
    assert PoolView.of({"m": first, "other": second}).by_model["other"] is second


def test_callers_know_a_pool_by_its_models_and_never_by_an_upstreams_host() -> None:
    upstream = Pool("upstream@10.0.0.7:8000")
    view = PoolView({"second": upstream, "first": upstream, "moss": Pool("moss")})
    assert view.told_name("moss") == "moss"
    assert view.told_name(upstream.name) == "first, second"
    assert PoolView().told_name(upstream.name) == ""
