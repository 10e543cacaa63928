"""Small random MOSS checkpoints, in the layout in which the 16.7 billion parameters were published.

The weights are made by transformers' CodeGen, whose attention, layer for layer, is MOSS's; so
CodeGen with the same weights says what the engine has to say.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tokenizers import pre_tokenizers

from serving.moss.folder import CHAT_TEMPLATE
from serving.moss.tokenizer import CONTROL_TOKENS, TEXT_END, build_tokenizer, parse_merges
from tests.moss_lessons import Lesson, teach

Layout = Literal["bin", "safetensors"]

# Heads in fours, as the fused projection wants them; widths that vLLM's attention on CPU knows.
SMALL = {"n_layer": 3, "n_head": 8, "n_embd": 256, "rotary_dim": 16, "n_positions": 2048}
# One layer's proportions as published: head 256, rotary 64.
WIDE = {"n_layer": 1, "n_head": 4, "n_embd": 1024, "rotary_dim": 64, "n_positions": 512}

# A few pairs that the published tokenizer has too, so that text is not bytes alone.
_MERGES = (
    *(("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("t", "h"), ("th", "e"), ("i", "n")),
    *(("Ġ", "a"), ("Ġ", "the"), ("Ġ", "hello"), ("S", "S"), ("O", "SS"), ("u", "m"), ("um", "an")),
    *(("a", "n"), (">", ":"), ("R", "e"), ("Re", "s"), ("l", "t"), ("lt", "s"), ("Ċ", "Ċ")),
)


def published_tokenizer() -> tuple[dict[str, int], str, dict[str, int]]:
    """vocab.json, merges.txt and added_tokens.json; the added tokens are those of MOSS, in order.

    Behind the vocabulary: the end of a text, 31 to 2 spaces, 9 to 2 tabs, the other five.
    """
    vocabulary = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for first, second in _MERGES:
        for token in (first, second, first + second):
            vocabulary.setdefault(token, len(vocabulary))
    added = (
        TEXT_END,
        *(" " * count for count in range(31, 1, -1)),
        *("\t" * count for count in range(9, 1, -1)),
        *CONTROL_TOKENS[1:],
    )
    merges = "#version: 0.2\n" + "".join(f"{first} {second}\n" for first, second in _MERGES)
    return vocabulary, merges, {token: len(vocabulary) + i for i, token in enumerate(added)}


def write_tokenizer(folder: Path) -> dict[str, int]:
    """The published tokenizer's files; returns the added tokens."""
    vocabulary, merges, added = published_tokenizer()
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    (folder / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    code = {"AutoTokenizer": ["tokenization_moss.MossTokenizer", None]}
    config = {"tokenizer_class": "MossTokenizer", "auto_map": code, "model_max_length": 2048}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return added


def published_config(added: dict[str, int], **sizes: Any) -> dict[str, Any]:
    """config.json as published, with other sizes."""
    return {
        "_name_or_path": "fnlp/moss-moon-003-sft",
        "activation_function": "gelu_new",
        "architectures": ["MossForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_moss.MossConfig",
            "AutoModel": "modeling_moss.MossModel",
            "AutoModelForCausalLM": "modeling_moss.MossForCausalLM",
        },
        "attn_pdrop": 0.0,
        "bos_token_id": added[TEXT_END],
        "embd_pdrop": 0.0,
        "eos_token_id": added["<eom>"],
        "gradient_checkpointing": False,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "moss",
        "n_inner": None,
        "resid_pdrop": 0.0,
        "scale_attn_weights": True,
        "summary_activation": None,
        "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "tie_word_embeddings": False,
        "tokenizer_class": "GPT2Tokenizer",
        "torch_dtype": "float32",
        "transformers_version": "4.25.1",
        "use_cache": True,
        # Padded beyond the tokenizer, as 107008 is beyond 106072.
        "vocab_size": max(added.values()) + 25,
        "n_ctx": sizes.get("n_positions"),
        **sizes,
    }


def chat_tokenizer() -> Any:
    """The tokenizer with MOSS's chat template, as transformers has it."""
    from transformers import PreTrainedTokenizerFast

    vocabulary, merges, added = published_tokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(vocabulary, parse_merges(merges), added),
        chat_template=CHAT_TEMPLATE.read_text(encoding="utf-8"),
    )


def write_checkpoint(
    folder: Path, layout: Layout, sizes: dict[str, int], lessons: Sequence[Lesson] = ()
) -> Any:
    """Write a whole published folder; returns the reference, a CodeGenForCausalLM in float32.

    The weights are random, or have learned the `lessons` by heart.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = published_config(write_tokenizer(folder), **sizes)
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("configuration_moss.py", "modeling_moss.py", "tokenization_moss.py"):
        # Whoever runs the published code fails here.
        (folder / name).write_text('raise AssertionError("the published code was run")\n')
    reference = _reference(config)
    if lessons:
        teach(reference, chat_tokenizer(), lessons)
    else:
        _scatter(reference)
    _write_weights(folder, layout, _with_masks(reference.state_dict(), config))
    return reference


def _reference(config: dict[str, Any]) -> Any:
    import torch
    from transformers import CodeGenConfig, CodeGenForCausalLM

    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "rotary_dim")
    sizes = {name: config[name] for name in names}
    ends = {name: config[name] for name in ("bos_token_id", "eos_token_id")}
    torch.manual_seed(20230220)
    return CodeGenForCausalLM(CodeGenConfig(**sizes, **ends)).eval()


def _scatter(model: Any) -> None:
    import torch

    torch.manual_seed(20230220)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(*_mean_and_spread(name, parameter.shape[-1]))


def _mean_and_spread(name: str, width: int) -> tuple[float, float]:
    """Far from the usual spread of 0.02.

    Each part of a layer must show in the logits, the next token must hang on the context and not
    on the last token alone, and the best token must be ahead of the second by far more than
    float32 rounds: with these, 200 greedy steps take 40 to 60 different tokens, and where the
    logits spread by 8 the smallest lead is some 0.001 and rounding shows as 0.0001.
    """
    if name.endswith(("ln_1.weight", "ln_f.weight")):
        return 1.0, 0.2
    if name.endswith("bias"):
        return 0.0, 0.3
    if name.endswith("wte.weight"):
        return 0.0, 0.1
    if name.endswith("lm_head.weight"):
        return 0.0, 0.5
    return 0.0, width**-0.5 * (2.0 if "qkv" in name else 1.0)


def _with_masks(weights: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    import torch

    positions = config["n_positions"]
    mask = torch.tril(torch.ones(positions, positions, dtype=torch.uint8))[None, None]
    masks = {f"transformer.h.{n}.attn.causal_mask": mask for n in range(config["n_layer"])}
    return {name: tensor.contiguous() for name, tensor in {**weights, **masks}.items()}


def _write_weights(folder: Path, layout: Layout, weights: dict[str, Any]) -> None:
    """Two shards and the index that tells which tensor is in which."""
    import torch
    from safetensors.torch import save_file

    stem = "pytorch_model" if layout == "bin" else "model"
    names = sorted(weights)
    halves = {1: names[: len(names) // 2], 2: names[len(names) // 2 :]}
    places = {}
    for number, shard in halves.items():
        path = folder / f"{stem}-0000{number}-of-00002.{layout}"
        tensors = {name: weights[name].clone() for name in shard}
        if layout == "bin":
            torch.save(tensors, path)
        else:
            save_file(tensors, path, metadata={"format": "pt"})
        places.update(dict.fromkeys(shard, path.name))
    suffix = "bin" if layout == "bin" else "safetensors"
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
