"""From a MOSS folder as it was published to one that vLLM reads without running its code.

Published are a config that points to Python code and says float32 of weights in float16, the
files of a tokenizer that only that code reads, no chat template, and the weights. The folder made
here has a config, a fast tokenizer, a template, sampling defaults, and links to the weights.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from serving.errors import ModelUnusable
from serving.models.model_folder import read_config
from serving.models.weight_files import weight_dtype, weight_files, weight_indices
from serving.moss.tokenizer import (
    ANSWER_END,
    CONTROL_TOKENS,
    TEXT_END,
    build_tokenizer,
    parse_merges,
)

CHAT_TEMPLATE: Final = Path(__file__).with_name("chat_template.jinja")
# What the published config says of its own code and tokenizer, and of a precision that is wrong.
_DROPPED: Final = ("auto_map", "_name_or_path", "tokenizer_class", "torch_dtype", "dtype")
# As published with the chat models.
_SAMPLING: Final = {
    "do_sample": True,
    "temperature": 0.7,
    "top_p": 0.8,
    "repetition_penalty": 1.02,
    "max_new_tokens": 256,
}


def prepare_folder(published: Path, home: Path) -> Path:
    """The folder for vLLM, under `home`; made anew when anything in `published` has changed.

    Takes about a second and a few MB. Raises ModelUnusable for what is missing or damaged, and
    for the int4 and int8 checkpoints, whose format is their own.
    """
    config = read_config(published)
    if (bits := config.get("wbits") or config.get("quantization_bit")) in (4, 8):
        raise ModelUnusable(
            f"{published} holds weights of {bits} bits in a format of MOSS's own, which vLLM does "
            "not read. Serve the checkpoint without -int4 or -int8 in its name."
        )
    weights = weight_files(published)
    if not weights:
        raise ModelUnusable(f"The MOSS folder {published} has no weights (*.bin, *.safetensors).")
    tokenizer = _tokenizer(published)
    chats = _is_chat_model(published, config, tokenizer)
    files = {
        "config.json": _json(_config(config, weight_dtype(weights[0]))),
        "tokenizer.json": tokenizer.to_str(),
        "tokenizer_config.json": _json(_tokenizer_config(config, chats=chats)),
        "generation_config.json": _json(_generation_config(tokenizer, chats=chats)),
    }
    if chats:
        files["chat_template.jinja"] = CHAT_TEMPLATE.read_text(encoding="utf-8")
    try:
        return _write(home / "prepared", published, files, weights + weight_indices(published))
    except OSError as error:
        raise ModelUnusable(f"{home}/prepared cannot be written: {error}.") from error


def _tokenizer(published: Path) -> Tokenizer:
    vocabulary = _ids(published / "vocab.json")
    added = _ids(published / "added_tokens.json")
    merges = _read(published / "merges.txt")
    try:
        return build_tokenizer(vocabulary, parse_merges(merges), added)
    except ValueError as error:
        raise ModelUnusable(f"The tokenizer in {published} cannot be used: {error}.") from error


def _is_chat_model(published: Path, config: dict[str, Any], tokenizer: Tokenizer) -> bool:
    """The chat models end with the end of an answer, the base model with the end of a text."""
    vocabulary_size = config.get("vocab_size")
    size = tokenizer.get_vocab_size()
    if not isinstance(vocabulary_size, int) or size > vocabulary_size:
        raise ModelUnusable(
            f"{published}/config.json has a vocab_size of {vocabulary_size}; the tokenizer has "
            f"{size} tokens."
        )
    ends = {tokenizer.token_to_id(ANSWER_END): True, tokenizer.token_to_id(TEXT_END): False}
    end = config.get("eos_token_id")
    if end not in ends:
        raise ModelUnusable(
            f"{published}/config.json has the eos_token_id {end}, which is neither {ANSWER_END} "
            f"nor {TEXT_END}."
        )
    return ends[end]


def _config(published: dict[str, Any], dtype: str | None) -> dict[str, Any]:
    kept = {name: value for name, value in published.items() if name not in _DROPPED}
    return kept | {"dtype": dtype or published.get("torch_dtype", "float16")}


def _tokenizer_config(config: dict[str, Any], *, chats: bool) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": TEXT_END,
        "unk_token": TEXT_END,
        "eos_token": ANSWER_END if chats else TEXT_END,
        "extra_special_tokens": [token for token in CONTROL_TOKENS if token != TEXT_END],
        "model_max_length": config.get("n_positions", 2048),
        "clean_up_tokenization_spaces": False,
    }


def _generation_config(tokenizer: Tokenizer, *, chats: bool) -> dict[str, Any]:
    text_end = tokenizer.token_to_id(TEXT_END)
    if not chats:
        return {"bos_token_id": text_end, "eos_token_id": text_end}
    ends = [tokenizer.token_to_id(ANSWER_END), text_end]
    return {"bos_token_id": text_end, "eos_token_id": ends, **_SAMPLING}


def _write(parent: Path, published: Path, files: dict[str, str], linked: list[Path]) -> Path:
    """A folder that is named after its content appears under its name when it is complete.

    So two starts at the same time, or a start beside a running engine, do not disturb each other.
    """
    digest = hashlib.sha256()
    for name, text in sorted(files.items()):
        digest.update(f"{name}\0{text}\0".encode())
    for path in linked:
        digest.update(f"{path}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}\0".encode())
    folder = parent / f"{published.name}-{digest.hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    try:
        for name, text in files.items():
            (new / name).write_text(text, encoding="utf-8")
        for path in linked:
            (new / path.name).symlink_to(path)
        new.chmod(0o755)
        try:
            new.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def _ids(path: Path) -> dict[str, int]:
    try:
        ids = json.loads(_read(path))
    except ValueError as error:
        raise ModelUnusable(f"{path} cannot be read: {error}.") from error
    if not isinstance(ids, dict) or not all(isinstance(value, int) for value in ids.values()):
        raise ModelUnusable(f"{path} does not map tokens to ids.")
    return ids


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ModelUnusable(f"The MOSS folder {path.parent} has no {path.name}.") from error
    except (OSError, ValueError) as error:
        raise ModelUnusable(f"{path} cannot be read: {error}.") from error


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
