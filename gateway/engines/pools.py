"""Which models there are and which replicas can serve them, as this worker last saw it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.engines.comeback import retry_after_s
from gateway.engines.replica_record import ModelRecord, Replica
from gateway.errors import ApiError, NotFound, Unavailable, retry_headers

# A pool that is one upstream server is named by it; others have their model's name.
UPSTREAM_PREFIX = "upstream@"


class PoolState(StrEnum):
    """Whether requests can run, and if not, whether waiting is likely to help."""

    RUNNING = "running"
    STARTING = "starting"  # replicas are wanted and none is up yet
    SCALED_TO_ZERO = "scaled_to_zero"  # none is wanted, and somebody is there to want one
    DEAD = "dead"  # nobody sees to it


@dataclass(frozen=True, slots=True)
class Pool:
    """Replicas that share one count of slots: those of one model, or one upstream server.

    `name` is the tag of the pool's keys on the flow Redis. `endpoints` empty means that the
    engine decides itself what it can do. `keeper` is what whoever keeps its replicas says, None
    where nobody does: its serving is dead, or it is somebody else's server. `adapters_known` is
    what its replicas are to serve beside the model.
    """

    name: str
    replicas: tuple[Replica, ...] = ()
    keeper: ModelRecord | None = None
    adapters_known: frozenset[str] = frozenset()

    @property
    def state(self) -> PoolState:
        if self.running:
            return PoolState.RUNNING
        if self.keeper is not None and self.keeper.replicas_wanted == 0:
            return PoolState.SCALED_TO_ZERO
        if self.keeper is not None or any(r.state == "starting" for r in self.replicas):
            return PoolState.STARTING
        return PoolState.DEAD

    @property
    def is_kept(self) -> bool:
        """Whether somebody starts a replica for callers who wait: also where it sleeps by now."""
        return self.keeper is not None

    @property
    def running(self) -> tuple[Replica, ...]:
        return tuple(r for r in self.replicas if r.state == "running" and r.slots > 0)

    @property
    def adapters(self) -> frozenset[str]:
        """Those that every running replica has, so that any slot will do; while none runs, those
        that are to be served."""
        names = [replica.adapters for replica in self.running]
        return frozenset.intersection(*names) if names else self.adapters_known

    @property
    def context_tokens_max(self) -> int | None:
        """What each replica can take, prompt and answer together; None where none says."""
        lengths = [each.context_tokens_max for each in self._told if each.context_tokens_max]
        return min(lengths, default=None)

    @property
    def output_tokens_default(self) -> int | None:
        """The model's own largest answer where a caller names none; None where none says."""
        told = [each.output_tokens_default for each in self._told if each.output_tokens_default]
        return min(told, default=None)

    @property
    def template_tokens(self) -> int:
        """What the chat template adds to a conversation at most; 0 where none says."""
        return max((each.template_tokens for each in self._told), default=0)

    @property
    def is_vllm(self) -> bool:
        """Whether its replicas are serving's own, which take what only vLLM takes."""
        return self.is_kept or any(each.tells_its_load for each in self.replicas)

    @property
    def tokenizers(self) -> Iterator[str]:
        """Folders of the model's tokenizer, on whichever machine."""
        return (each.tokenizer for each in self._told if each.tokenizer)

    def can_do(self, endpoint: str) -> bool:
        """Whether any replica answers there; those that have not said so may."""
        told = [each.endpoints for each in self._told]
        return not told or any(not endpoints or endpoint in endpoints for endpoints in told)

    @property
    def _told(self) -> tuple[Replica | ModelRecord, ...]:
        """Who says what the model is: its replicas, else whoever keeps them."""
        return self.replicas or ((self.keeper,) if self.keeper is not None else ())


@dataclass(frozen=True, slots=True)
class PoolView:
    """Model name -> pool, with adapters as models of their own that share their base's pool.

    Replaced as a whole by whoever watches capacity. `empty_s`: how long there has been no model.
    """

    by_model: Mapping[str, Pool] = field(default_factory=dict)
    empty_s: float = 0.0

    @classmethod
    def of(cls, by_model: Mapping[str, Pool], *, empty_s: float = 0.0) -> "PoolView":
        """With the adapters of each model; a model's name goes before an adapter's."""
        adapters = {name: pool for pool in by_model.values() for name in pool.adapters}
        return cls({**adapters, **by_model}, empty_s)

    def pools(self) -> tuple[Pool, ...]:
        return tuple({pool.name: pool for pool in self.by_model.values()}.values())

    def pool_named(self, name: str) -> Pool:
        """The pool as it is now; one without replicas where it has gone out of view."""
        return next((pool for pool in self.by_model.values() if pool.name == name), Pool(name))

    def told_name(self, pool_name: str) -> str:
        """What callers know a pool by: its model, or those of an upstream.

        Empty for an upstream that has told of none: its host is no business of theirs.
        """
        if not pool_name.startswith(UPSTREAM_PREFIX):
            return pool_name
        models = sorted(name for name, pool in self.by_model.items() if pool.name == pool_name)
        return ", ".join(models)

    def pool_for(self, model: str, endpoint: str) -> Pool:
        """The pool that serves the model at the endpoint (`chat/completions`, …).

        Raises:
            NotFound: no such model, or the model cannot do this endpoint.
            Unavailable: no model has been announced yet.
        """
        pool = self.by_model.get(model)
        if pool is None:
            raise self.absence(model)
        if not pool.can_do(endpoint):
            raise NotFound(
                f"The model '{model[:200]}' cannot do /v1/{endpoint}.",
                code="endpoint_not_supported",
                param="model",
            )
        return pool

    def absence(self, model: str) -> ApiError:
        """What a caller is told of a model that is not here."""
        if not self.by_model:
            wait_s = retry_after_s(self.empty_s)
            return Unavailable(
                f"No model is being served yet. Try again in {wait_s} s.",
                headers=retry_headers(wait_s),
            )
        return NotFound(
            f"The model '{model[:200]}' does not exist. GET /v1/models lists those that do.",
            code="model_not_found",
            param="model",
        )
