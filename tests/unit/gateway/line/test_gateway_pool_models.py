import pytest
from prometheus_client import REGISTRY

from gateway.engines.pools import Pool, PoolView
from gateway.line.pool_models import PoolModels


def told(pool: str, model: str) -> float | None:
    return REGISTRY.get_sample_value("floodgate_pool_model", {"pool": pool, "model": model})


def test_a_line_can_be_joined_with_every_model_that_waits_in_it() -> None:
    models = PoolModels()
    shared, own = Pool("upstream@host:1"), Pool("mine")
    models.tell(PoolView({"first": shared, "second": shared, "mine": own, "adapter": own}))
    assert told("upstream@host:1", "first") == told("upstream@host:1", "second") == 1
    assert told("mine", "mine") == told("mine", "adapter") == 1


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_model_that_has_gone_belongs_to_no_line(comes_back: bool) -> None:
    models, pool = PoolModels(), Pool("going")
    models.tell(PoolView({"going": pool, "gone": pool}))
    models.tell(PoolView({"going": pool}))
    assert (told("going", "gone"), told("going", "going")) == (0, 1)
    if comes_back:
        models.tell(PoolView({"going": pool, "gone": pool}))
        assert told("going", "gone") == 1
