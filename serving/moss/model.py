"""MOSS as vLLM runs it: GPT-J's layers with weights of its own order.

Both have one layer norm before an attention and an MLP that run side by side, rotary embedding
of interleaved pairs on the first 64 dimensions of a head, tanh-approximated GELU, and an untied
head with a bias. They differ in how the checkpoint holds query, key and value.
"""

from __future__ import annotations

from vllm.model_executor.models.gpt_j import GPTJForCausalLM

from serving.moss.weights import NamedTensors, gptj_weights


class MossForCausalLM(GPTJForCausalLM):  # type: ignore[misc]  # vLLM's classes are untyped here
    """GPT-J with MOSS's weights; tensor parallelism is GPT-J's."""

    def load_weights(self, weights: NamedTensors) -> set[str]:
        """The names of the parameters that were loaded; vLLM refuses to start when one is not."""
        loaded: set[str] = super().load_weights(gptj_weights(weights))
        return loaded
