"""A replica from its first moment until its engine has answered once."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from serving.engine.cpu_environment import set_cpu_environment
from serving.engine.engine_config import llm_config_arguments, slot_range
from serving.engine.first_answer import get_first_answer
from serving.engine.replica_gate import ASGIApp
from serving.engine.start_steps import StartSteps
from serving.flow.record import EngineLoad, ReplicaFacts, endpoints_of, record_json
from serving.hardware.accelerator import Accelerator
from serving.models.model_folder import tokenizer_folder
from serving.settings import ServingSettings


@dataclass(frozen=True, slots=True)
class StartingReplica:
    """Publishes that it starts, starts the engine, and has it answer."""

    settings: ServingSettings
    accelerator: Accelerator
    replica_id: str
    steps: StartSteps = field(default_factory=lambda: StartSteps(time.monotonic))

    @property
    def facts(self) -> ReplicaFacts:
        """What is known before the engine has started."""
        return ReplicaFacts(
            model=self.settings.served_name,
            replica_id=self.replica_id,
            context_tokens_max=self.settings.context_tokens_max or 0,
            endpoints=(),
            tokenizer=tokenizer_folder(self.settings.model),
            adapters=tuple(self.settings.lora_modules),
        )

    def record(self) -> str:
        """The record of a replica that starts."""
        return record_json(
            self.facts,
            url="",
            state="starting",
            slots=slot_range(self.settings, self.accelerator).start,
            load=EngineLoad(),
            published_at_ms=time.time_ns() // 1_000_000,
        )

    async def start_engine(self, cores: tuple[int, ...]) -> Any:
        """A started LLMServer. `cores` are those that this process may use; raises as vLLM does."""
        if self.accelerator == "cpu":
            set_cpu_environment(self.settings, cores)
        # Imports vLLM, which reads its environment: only now.
        from serving.engine import ray_internals

        self.steps.done("import vLLM")
        ray_internals.keep_replica_grpc_on(self.settings.replica_host)
        server = await ray_internals.start_engine(
            llm_config_arguments(self.settings, self.accelerator, len(cores))
        )
        self.steps.done("start engine")
        return server

    async def build_api(self, server: Any) -> tuple[ASGIApp, ReplicaFacts]:
        """vLLM's API, which has answered once, and all that is known of the replica by then.

        Raises StartFailed.
        """
        from serving.engine import ray_internals

        api: ASGIApp = await ray_internals.build_api(server)
        engine = ray_internals.engine_client(server)
        tokenizer = engine.get_tokenizer()
        # Tokenizers without the attribute (Mistral's) bring their own format.
        template = getattr(tokenizer, "chat_template", "own")
        facts = replace(
            self.facts,
            context_tokens_max=engine.model_config.max_model_len,
            # `max_new_tokens` of the model's generation_config.json.
            output_tokens_default=engine.model_config.get_diff_sampling_param().get(
                "max_tokens", 0
            ),
            endpoints=endpoints_of(
                await engine.get_supported_tasks(), has_chat_template=template is not None
            ),
            template_tokens=_template_tokens(tokenizer),
        )
        self.steps.done("build API")
        ray_internals.drop_closed_log_handlers()
        await get_first_answer(api, facts.model, facts.endpoints)
        self.steps.done("first answer")
        return api, facts


def _template_tokens(tokenizer: Any) -> int:
    """Tokens that the chat template puts around one empty message; 0 where there is no telling."""
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": ""}], add_generation_prompt=True, tokenize=False
        )
        return len(tokenizer.encode(text, add_special_tokens=False))
    except Exception:  # no template, or one that wants more than a message
        return 0
