"""The policy by which Ray Serve scales a model: it sees the line in front of the gateway.

Ray pickles this module by value into its controller, where one instance lives from one deployment
to the next; so it holds nothing at the top level and imports the rest in its constructor.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any


class LinePolicy:
    """`policy_kwargs` are what ScalingTerms takes, the model and its adapters. Ray logs them."""

    def __init__(self, model: str, adapters: Sequence[str] = (), **terms: Any) -> None:
        from serving.scaling.line_watch import LineWatch
        from serving.scaling.scaling_rule import ScalingRule, ScalingTerms

        self._model = model
        self._watch = LineWatch(model, replicas_max=terms["replicas_max"], adapters=tuple(adapters))
        self._rule = ScalingRule(ScalingTerms(**terms))

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Called by Ray's controller in each of its rounds; never waits, never raises.

        An error raised here would keep all applications from being updated.
        """
        try:
            wanted = self._decide(context)
        except Exception:
            logging.getLogger("ray.serve").exception("replicas stay as they are")
            wanted = context.target_num_replicas
        self._watch.tell(wanted)
        return wanted, {}

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
