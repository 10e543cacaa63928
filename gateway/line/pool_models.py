"""Which models share which line, as a metric to join by."""

from gateway.engines.pools import PoolView
from gateway.telemetry.line_metrics import POOL_MODEL


class PoolModels:
    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def tell(self, view: PoolView) -> None:
        """Says what is so by now; adapters are models of their own."""
        found = {(pool.name, model) for model, pool in view.by_model.items()}
        for pool, model in self._told - found:
            POOL_MODEL.labels(pool, model).set(0)
        for pool, model in found - self._told:
            POOL_MODEL.labels(pool, model).set(1)
        self._told = found
