"""The fast tokenizer gives the ids of the published one, and gives every text back."""

import json
from itertools import pairwise

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from serving.moss.tokenizer import CONTROL_TOKENS, TEXT_END, build_tokenizer, parse_merges
from tests.moss_checkpoint import published_tokenizer

VOCABULARY, MERGES_TEXT, ADDED = published_tokenizer()
TOKENIZER = build_tokenizer(VOCABULARY, parse_merges(MERGES_TEXT), ADDED)
IDS = {**VOCABULARY, **ADDED}

# As the published tokenizer cuts text before it merges.
_WORDS = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
_ADDED = regex.compile(
    "(" + "|".join(regex.escape(token) for token in sorted(ADDED, key=len, reverse=True)) + ")"
)

TEXTS = st.lists(
    st.sampled_from([*"hel oanut\t\n'|:<>1é中🙂SOMR", *CONTROL_TOKENS, "  ", "\n    ", "<|MOSS|>:"])
).map("".join)


def _reference(text: str) -> list[int]:
    """Byte-pair encoding by its definition: of all pairs, merge the one that comes first."""
    ranks = {pair: rank for rank, pair in enumerate(parse_merges(MERGES_TEXT))}
    byte_characters = _byte_characters()
    ids: list[int] = []
    for piece in filter(None, _ADDED.split(text)):
        if piece in ADDED:
            ids.append(ADDED[piece])
            continue
        for word in _WORDS.findall(piece):
            parts = [byte_characters[byte] for byte in word.encode()]
            while pairs := [pair for pair in pairwise(parts) if pair in ranks]:
                first, second = min(pairs, key=ranks.__getitem__)
                merged: list[str] = []
                for part in parts:
                    if part == second and merged and merged[-1] == first:
                        merged[-1] = first + second
                    else:
                        merged.append(part)
                parts = merged
            ids.extend(VOCABULARY[part] for part in parts)
    return ids


def _byte_characters() -> dict[int, str]:
    """Printable bytes are themselves, the others follow from 256 on: GPT-2's table."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }


@given(TEXTS)
def test_ids_are_those_of_the_definition_and_give_the_text_back(text: str) -> None:
    ids = TOKENIZER.encode(text).ids
    assert ids == _reference(text)
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


def test_line_breaks_beside_indentation_stay() -> None:
    # The published code loses them (OpenMOSS/MOSS#315).
    tokens = TOKENIZER.encode("a:\n    b\n\t\tc  \n").tokens
    assert tokens == ["a", ":", "Ċ", "    ", "b", "Ċ", "\t\t", "c", "  ", "Ċ"]


def test_added_tokens_stand_as_in_the_published_vocabulary() -> None:
    # Ids that MOSS's own code and issues name, counted from the end of a text, 106028.
    first = ADDED[TEXT_END]
    assert TOKENIZER.token_to_id("<eom>") == first + 106068 - 106028
    assert TOKENIZER.token_to_id("  ") == first + 106058 - 106028
    assert TOKENIZER.token_to_id("   ") == first + 106057 - 106028


def test_turn_marks_are_ordinary_text() -> None:
    assert all(
        token in VOCABULARY for token in TOKENIZER.encode("<|MOSS|>:<|Inner Thoughts|>:").tokens
    )


def test_answers_are_decoded_without_control_tokens() -> None:
    ids = TOKENIZER.encode("hello  x<eom>").ids
    assert TOKENIZER.decode(ids) == "hello  x"


def test_a_text_end_inside_the_vocabulary() -> None:
    vocabulary = {**VOCABULARY, TEXT_END: len(VOCABULARY)}
    added = {token: number for token, number in ADDED.items() if token != TEXT_END}
    tokenizer = build_tokenizer(vocabulary, parse_merges(MERGES_TEXT), added)
    assert {token: tokenizer.token_to_id(token) for token in ADDED} == ADDED
    assert tokenizer.encode("a<|endoftext|>").tokens == ["a", TEXT_END]


def test_the_saved_tokenizer_is_the_same() -> None:
    saved = json.loads(TOKENIZER.to_str())
    assert {entry["content"]: entry["id"] for entry in saved["added_tokens"]} == ADDED
    special = {entry["content"] for entry in saved["added_tokens"] if entry["special"]}
    assert special == set(CONTROL_TOKENS)


@pytest.mark.parametrize("line", ["ab", "a b c", "a ", " b"])
def test_a_line_that_is_no_pair(line: str) -> None:
    with pytest.raises(ValueError, match="line 3"):
        parse_merges(f"#version: 0.2\nh e\n{line}\n")


def test_a_merge_without_its_token() -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        build_tokenizer(VOCABULARY, [("z", "q")], ADDED)


def test_missing_control_token() -> None:
    added = {token: number for token, number in ADDED.items() if token != "<eoc>"}
    with pytest.raises(ValueError, match="<eoc>"):
        build_tokenizer(VOCABULARY, [], added)


def test_a_gap_in_the_ids() -> None:
    with pytest.raises(ValueError, match="would be next"):
        build_tokenizer(VOCABULARY, [], ADDED | {"<new>": 10_000})


def test_the_byte_table_is_complete() -> None:
    assert set(_byte_characters().values()) == set(pre_tokenizers.ByteLevel.alphabet())
