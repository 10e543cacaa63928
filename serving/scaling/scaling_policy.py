"""The policy by which Ray Serve scales a model: it sees the line in front of the gateway.

Ray pickles this module by value into its controller, where one instance lives from one deployment
to the next; so it holds nothing at the top level and imports the rest in its constructor.
"""

from __future__ import annotations

import functools
import logging
import time
import weakref
from collections.abc import Sequence
from typing import Any


class LinePolicy:
    """`policy_kwargs` are what ScalingTerms takes, the model and its adapters. Ray logs them."""

    def __init__(self, model: str, adapters: Sequence[str] = (), **terms: Any) -> None:
        from serving.scaling.line_watch import LineWatch
        from serving.scaling.scaling_rule import ScalingRule, ScalingTerms
        from serving.scaling.start_retry import StartRetry

        self._model = model
        self._watch = LineWatch(model, replicas_max=terms["replicas_max"], adapters=tuple(adapters))
        self._rule = ScalingRule(ScalingTerms(**terms))
        self._retry = StartRetry()
        # Ray drops a policy without a word. The watch's thread holds the watch, never the policy.
        weakref.finalize(self, self._watch.stop)

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Called by Ray's controller in each of its rounds; never waits, never raises.

        An error raised here would keep all applications from being updated.
        """
        try:
            wanted = self._decide(context)
            self._watch.tell(wanted, self._start_failure(context))
            return self._retried(wanted, context), {}
        except Exception:
            logging.getLogger("ray.serve").exception("replicas stay as they are")
            return context.target_num_replicas, {}

    def _start_failure(self, context: Any) -> Any:
        """How to ask why none of the replicas runs; None where some do, or none was ordered."""
        from serving.scaling.start_status import start_failure

        is_down = context.target_num_replicas > 0 or self._watch.failure is not None
        if context.current_num_replicas or not is_down:
            return None
        return functools.partial(start_failure, context.app_name)

    def _retried(self, wanted: int, context: Any) -> int:
        return self._retry.target(
            wanted,
            target=context.target_num_replicas,
            running=context.current_num_replicas,
            has_failed=self._watch.failure is not None,
            now=time.monotonic(),
        )

    def _decide(self, context: Any) -> int:
        from serving.scaling.scaling_rule import ScalingView

        view = self._watch.view
        target: int = context.target_num_replicas
        if view is None:
            return target
        wanted = self._rule.decide(
            ScalingView(
                demand=view.demand,
                pin=view.pin,
                running=context.current_num_replicas,
                target=target,
                slots=view.slots,
                tokens_per_s=view.tokens_per_s,
                start_s=view.start_s,
            ),
            time.monotonic(),
        )
        if wanted != target:
            logging.getLogger("ray.serve").warning(
                "%s: %d replicas instead of %d (%s)", self._model, wanted, target, view
            )
        return wanted
