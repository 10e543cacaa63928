"""The fused projection is taken apart as the published model does it."""

from typing import Any

import pytest
import torch
from transformers import CodeGenConfig
from transformers.models.codegen.modeling_codegen import CodeGenAttention

from serving.moss.weights import gptj_weights, split_qkv

HEADS, WIDTH, TOKENS = 8, 64, 5


def _heads_in_the_reference(fused: torch.Tensor, hidden: torch.Tensor) -> list[torch.Tensor]:
    """Query, key and value of each head, [heads, tokens, head], just before CodeGen attends.

    At position 0 the rotary embedding turns nothing.
    """
    attention = CodeGenAttention(CodeGenConfig(n_embd=WIDTH, n_head=HEADS, rotary_dim=4), 0)
    attention.qkv_proj.weight = torch.nn.Parameter(fused)
    seen: list[torch.Tensor] = []

    def attend(query: Any, key: Any, value: Any, _mask: Any) -> tuple[Any, None]:
        seen.extend((query[0], key[0], value[0]))
        return value, None

    attention._attn = attend
    attention(hidden[None], position_ids=torch.zeros(1, TOKENS, dtype=torch.long))
    return seen


def test_every_head_gets_what_the_published_attention_gives_it() -> None:
    generator = torch.Generator().manual_seed(7)
    fused = torch.randn(3 * WIDTH, WIDTH, generator=generator)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator)
    expected = _heads_in_the_reference(fused, hidden)
    for weight, heads in zip(split_qkv(fused), expected, strict=True):
        found = (hidden @ weight.T).reshape(TOKENS, HEADS, -1).transpose(0, 1)
        torch.testing.assert_close(found, heads)


def test_rows_that_are_no_blocks() -> None:
    with pytest.raises(ValueError, match="10 rows"):
        split_qkv(torch.zeros(10, 4))


def test_masks_are_dropped_and_other_tensors_pass() -> None:
    fused = torch.arange(24.0)[:, None]
    norm = torch.ones(2)
    weights = [
        ("transformer.h.3.attn.causal_mask", torch.ones(1, dtype=torch.uint8)),
        ("transformer.h.3.attn.qkv_proj.weight", fused),
        ("transformer.h.3.ln_1.weight", norm),
    ]
    found = dict(gptj_weights(weights))
    assert list(found) == [
        "transformer.h.3.attn.q_proj.weight",
        "transformer.h.3.attn.k_proj.weight",
        "transformer.h.3.attn.v_proj.weight",
        "transformer.h.3.ln_1.weight",
    ]
    # Four blocks of two rows each for query, value, key.
    query = found["transformer.h.3.attn.q_proj.weight"].flatten().tolist()
    value = found["transformer.h.3.attn.v_proj.weight"].flatten().tolist()
    assert query == [0, 1, 6, 7, 12, 13, 18, 19]
    assert value == [2, 3, 8, 9, 14, 15, 20, 21]
    assert found["transformer.h.3.ln_1.weight"] is norm
