"""What a vLLM engine says about its own settings at start: how two engines are known to be alike.

vLLM prints one line, `Initializing a V1 LLM engine … with config: name=value, …`. Pure.
"""

import re

from loadtests.errors import MeasurementError

# What changes the speed of an engine on the same machine.
COMPARED = (
    "model",
    "dtype",
    "max_seq_len",
    "quantization",
    "tensor_parallel_size",
    "enforce_eager",
    "kv_cache_dtype",
    "device_config",
    "enable_prefix_caching",
    "enable_chunked_prefill",
    "speculative_config",
)
_LINE = re.compile(r"Initializing a V1 LLM engine .*? with config: (.*)")


def read_engine_settings(log: str) -> dict[str, str]:
    """The compared settings of the last engine that started.

    Raises:
        MeasurementError: the line is missing, or a setting in it.
    """
    lines = _LINE.findall(log)
    if not lines:
        raise MeasurementError("the engine's log does not tell its settings")
    found = {}
    for name in COMPARED:
        match = re.search(rf"(?:^|, ){name}=([^,]*)", lines[-1])
        if match is None:
            raise MeasurementError(f"the engine's log does not tell {name}")
        found[name] = match[1]
    return found


def require_alike(one: dict[str, str], other: dict[str, str]) -> None:
    """Raise MeasurementError, naming the settings, unless both engines run with the same."""
    different = [
        f"{name}: {one[name]} and {other[name]}" for name in COMPARED if one[name] != other[name]
    ]
    if different:
        raise MeasurementError(f"the engines differ in {'; '.join(different)}")
