"""MOSS's byte-level BPE as a fast tokenizer, from the three files that were published.

What was published with them is Python code of its own, which nobody should have to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

TEXT_END: Final = "<|endoftext|>"
HUMAN_END: Final = "<eoh>"
ANSWER_END: Final = "<eom>"
THOUGHTS_END: Final = "<eot>"
COMMANDS_END: Final = "<eoc>"
RESULTS_END: Final = "<eor>"

# Single tokens with a meaning of their own. Whose turn it is is told by ordinary text, such as
# <|Human|>, which six ordinary tokens spell.
CONTROL_TOKENS: Final = (
    TEXT_END,
    HUMAN_END,
    ANSWER_END,
    THOUGHTS_END,
    COMMANDS_END,
    RESULTS_END,
)


def parse_merges(text: str) -> list[tuple[str, str]]:
    """The pairs of a merges.txt, best first. Its first line is a header.

    Raises ValueError for a line that is not a pair.
    """
    merges: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n")[1:], start=2):
        if not line:
            continue
        first, space, second = line.partition(" ")
        if not (first and space and second) or " " in second:
            raise ValueError(f"line {number} is not a pair of tokens: {line[:40]!r}")
        merges.append((first, second))
    return merges


def build_tokenizer(
    vocabulary: Mapping[str, int], merges: list[tuple[str, str]], added: Mapping[str, int]
) -> Tokenizer:
    """A tokenizer with the ids of the published one.

    `added` are the tokens beyond the vocabulary: the control tokens and, as in CodeGen, runs of
    spaces and tabs. Where the published code meets such a run it drops the line break beside it;
    the model was trained with the breaks (it writes them), so they stay here.

    Raises ValueError if the three do not fit together.
    """
    missing = [token for token in CONTROL_TOKENS if token not in added and token not in vocabulary]
    if missing:
        raise ValueError(f"the control tokens {', '.join(missing)} are missing")
    tokenizer = Tokenizer(_model(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    for token in CONTROL_TOKENS:
        if token in vocabulary:
            tokenizer.add_special_tokens([_added_token(token)])
    # New ids are given in the order in which tokens are added.
    for token, token_id in sorted(added.items(), key=lambda entry: entry[1]):
        tokenizer.add_tokens([_added_token(token)])
        if tokenizer.token_to_id(token) != token_id:
            raise ValueError(
                f"the added token {token!r} has the id {token_id}, where "
                f"{tokenizer.token_to_id(token)} would be next"
            )
    return tokenizer


def _model(vocabulary: Mapping[str, int], merges: list[tuple[str, str]]) -> models.BPE:
    try:
        return models.BPE(vocab=dict(vocabulary), merges=merges)
    except Exception as error:  # tokenizers raises bare Exceptions
        raise ValueError(str(error)) from error


def _added_token(token: str) -> AddedToken:
    return AddedToken(
        token, lstrip=False, rstrip=False, normalized=False, special=token in CONTROL_TOKENS
    )
