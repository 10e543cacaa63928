"""What vLLM calls in each of its processes (entry point group `vllm.general_plugins`)."""

from __future__ import annotations

ARCHITECTURE = "MossForCausalLM"
TOOL_PARSER = "moss"


def register() -> None:
    """Tell transformers of the configuration, vLLM of the model and of the parser of its calls.

    May be called again. The model is named, not imported: importing it takes seconds, and in a
    process that must not touch a GPU yet it must not happen at all.
    """
    from transformers import AutoConfig
    from vllm import ModelRegistry
    from vllm.tool_parsers import ToolParserManager

    from serving.moss.config import MossConfig

    AutoConfig.register(MossConfig.model_type, MossConfig, exist_ok=True)
    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, f"serving.moss.model:{ARCHITECTURE}")
    ToolParserManager.register_lazy_module(
        TOOL_PARSER, "serving.moss.tool_parser", "MossToolParser"
    )
