"""The configuration of a MOSS checkpoint."""

from __future__ import annotations

from transformers import CodeGenConfig


class MossConfig(CodeGenConfig):  # type: ignore[misc]  # transformers ships no types
    """CodeGen's fields with the values of moss-moon-003, 16.7 billion parameters.

    The defaults of the class that MOSS published (28 layers, 16 heads, width 4096) are those of
    no published checkpoint.
    """

    model_type = "moss"

    vocab_size: int = 107008
    n_embd: int = 6144
    n_layer: int = 34
    n_head: int = 24
    bos_token_id: int | None = 106028
    eos_token_id: int | list[int] | None = 106068
