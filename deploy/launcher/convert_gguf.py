"""Turn a GGUF file into a folder that vLLM loads.

Run as `python -m deploy.launcher.convert_gguf FOLDER NAME TARGET`.

A process of its own: it takes a gigabyte of memory and imports torch, and the launcher neither.
FOLDER holds the file NAME; TARGET gets bfloat16 safetensors, tokenizer and chat template.
"""

import sys
from pathlib import Path


def main() -> None:
    source, name, target = sys.argv[1:]
    convert(Path(source), name, Path(target))


def convert(source: Path, name: str, target: Path) -> None:
    """Reads source/name and writes the folder `target`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(gguf_file=name, dequantize=True),
    )
    # The weights are dequantized by now; with this entry vLLM would look for a GGUF file.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=name).save_pretrained(target)


if __name__ == "__main__":
    main()
