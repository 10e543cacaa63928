"""The sizes of moss-moon-003, and the arithmetic that docs/moss.md makes of them."""

from pathlib import Path

import torch
from transformers import CodeGenForCausalLM

from serving.moss.config import MossConfig
from tests.moss_checkpoint import SMALL, published_config, published_tokenizer

MEMORY_PLAN = (Path(__file__).parents[3] / "docs" / "moss.md").read_text(encoding="utf-8")


def test_the_defaults_are_the_published_sizes() -> None:
    config = MossConfig()
    assert (config.num_hidden_layers, config.num_attention_heads) == (34, 24)
    assert (config.hidden_size, config.vocab_size) == (6144, 107008)
    assert (config.max_position_embeddings, config.rotary_dim) == (2048, 64)
    assert not config.tie_word_embeddings


def test_a_published_config_is_read() -> None:
    added = published_tokenizer()[2]
    config = MossConfig(**published_config(added, **SMALL))
    assert (config.n_layer, config.n_head, config.n_embd) == (3, 8, 256)
    assert config.eos_token_id == added["<eom>"]
    assert config.model_type == "moss"


def test_the_memory_plan_adds_up() -> None:
    config = MossConfig()
    with torch.device("meta"):
        model = CodeGenForCausalLM(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    layer = sum(parameter.numel() for parameter in model.transformer.h[0].parameters())
    token_bytes = 2 * config.n_layer * config.n_embd * 2
    for number in (
        f"**{parameters:,}**",
        f"{layer:,}",
        f"{parameters * 2 / 2**30:.1f} GiB",
        f"{token_bytes // 1024} KiB",
        f"{token_bytes * config.n_positions / 2**30:.2f} GiB",
    ):
        assert number in MEMORY_PLAN, number
