"""MOSS (moss-moon-003: base, sft, sft-plugin) for vLLM, which does not know it.

`plugin` tells vLLM of the model; `folder` turns what was published into what vLLM reads.
"""
