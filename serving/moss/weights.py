"""From a published MOSS checkpoint's tensors to those that vLLM's GPT-J takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

# The cores that CodeGen was trained on: the fused projection is cut into as many blocks, each
# with a part of the heads. Every published checkpoint has 4, whatever it is served on.
_BLOCKS = 4

_FUSED = ".attn.qkv_proj.weight"
# A lower triangle of ones, 4 MiB a layer. vLLM's attention needs none.
_MASK = ".attn.causal_mask"

NamedTensors = Iterable[tuple[str, torch.Tensor]]


def split_qkv(fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value weights of all heads in order, each [width, width].

    `fused` is [3 * width, width]; its rows are four blocks of query, value, key, in this order.
    Raises ValueError if the rows cannot be cut so.
    """
    rows = fused.shape[0]
    if rows % (3 * _BLOCKS):
        raise ValueError(f"A fused projection of {rows} rows has no {_BLOCKS} blocks of three.")
    width = rows // 3
    blocks = fused.reshape(_BLOCKS, 3, width // _BLOCKS, *fused.shape[1:])
    query, value, key = (blocks[:, part].reshape(width, *fused.shape[1:]) for part in range(3))
    return query, key, value


def gptj_weights(weights: NamedTensors) -> Iterator[tuple[str, torch.Tensor]]:
    """The checkpoint's tensors under the names of GPT-J, masks left out."""
    for name, tensor in weights:
        if name.endswith(_MASK):
            continue
        if not name.endswith(_FUSED):
            yield name, tensor
            continue
        prefix = name.removesuffix("qkv_proj.weight")
        for part, separate in zip("qkv", split_qkv(tensor), strict=True):
            yield f"{prefix}{part}_proj.weight", separate
