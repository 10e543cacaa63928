"""Codes and keys: their form, what is forgiven, and which typos are found."""

import random
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitlist.errors import CodeMalformed
from waitlist.proofs import tokens

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

# Made by the first release.
KNOWN_CODE = "fgi-C9VDP68535H0FVW0C1HX8JM2QE"
KNOWN_KEY = "fg-T8sdUGuzrhYitH0cxppwmPBV4H28Bv19WQZ7"

codes = st.builds(tokens.new_code)
keys = st.builds(tokens.new_api_key)


def is_code(text: str) -> bool:
    try:
        tokens.normalise_code(text)
    except CodeMalformed:
        return False
    return True


def swapped(text: str, i: int) -> str:
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


# What they look like


@given(codes)
def test_code_has_its_documented_form(code: str) -> None:
    assert re.fullmatch(rf"fgi-[{CROCKFORD}]{{26}}", code)
    assert tokens.normalise_code(code) == code


@given(keys)
def test_key_has_its_documented_form(key: str) -> None:
    assert re.fullmatch(r"fg-[0-9A-Za-z]{36}", key)
    assert tokens.is_well_formed_key(key)


def test_known_texts_stay_valid() -> None:
    """Codes and keys that are out there must not become invalid by a change of ours."""
    assert is_code(KNOWN_CODE)
    assert tokens.is_well_formed_key(KNOWN_KEY)


def test_codes_and_keys_do_not_repeat() -> None:
    assert len({tokens.new_code() for _ in range(5_000)}) == 5_000
    assert len({tokens.new_api_key() for _ in range(5_000)}) == 5_000


def test_every_symbol_occurs_at_every_random_position() -> None:
    made = [tokens.new_code().removeprefix("fgi-") for _ in range(2_000)]
    assert all({code[i] for code in made} == set(CROCKFORD) for i in range(20))
    made = [tokens.new_api_key().removeprefix("fg-") for _ in range(4_000)]
    assert all({key[i] for key in made} == set(BASE62) for i in range(30))


# Which typos are found


@given(codes)
def test_every_single_typo_in_a_code_is_found(code: str) -> None:
    for i in range(4, len(code)):
        for symbol in CROCKFORD:
            assert symbol == code[i] or not is_code(code[:i] + symbol + code[i + 1 :])


@given(codes)
def test_every_swap_of_neighbours_in_a_code_is_found(code: str) -> None:
    for i in range(4, len(code) - 1):
        assert code[i] == code[i + 1] or not is_code(swapped(code, i))


@given(codes, st.data())
def test_up_to_four_wrong_symbols_in_a_code_are_found(code: str, data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(4, 29), min_size=1, max_size=4))
    wrong = list(code)
    for place in places:
        wrong[place] = data.draw(st.sampled_from([s for s in CROCKFORD if s != code[place]]))
    assert not is_code("".join(wrong))


@given(codes, st.integers(4, 29), st.sampled_from(CROCKFORD))
def test_lost_or_doubled_symbols_in_a_code_are_found(code: str, i: int, symbol: str) -> None:
    assert not is_code(code[:i] + code[i + 1 :])
    assert not is_code(code[:i] + symbol + code[i:])


@given(keys)
def test_every_single_typo_in_a_key_is_found(key: str) -> None:
    for i in range(3, len(key)):
        for char in BASE62:
            assert char == key[i] or not tokens.is_well_formed_key(key[:i] + char + key[i + 1 :])


@given(keys)
def test_every_swap_of_neighbours_inside_a_part_of_a_key_is_found(key: str) -> None:
    seam = len(key) - 7
    for i in range(3, len(key) - 1):
        if i != seam and key[i] != key[i + 1]:
            assert not tokens.is_well_formed_key(swapped(key, i))


def test_swap_across_the_seam_of_a_key_is_found_but_for_about_one_in_2_to_the_32() -> None:
    """The one swap without a guarantee; 20,000 draws that all fail agree with 1 in 2^32."""
    made = (tokens.new_api_key() for _ in range(20_000))
    missed = [
        key for key in made if key[32] != key[33] and tokens.is_well_formed_key(swapped(key, 32))
    ]
    assert missed == []


def test_random_text_of_the_right_form_is_no_key_and_no_code() -> None:
    draw = random.Random(7)
    for _ in range(20_000):
        assert not tokens.is_well_formed_key("fg-" + "".join(draw.choices(BASE62, k=36)))
    for _ in range(5_000):
        assert not is_code("fgi-" + "".join(draw.choices(CROCKFORD, k=26)))


# What is forgiven in a code, and what is not


@pytest.mark.parametrize(
    "retype",
    [
        pytest.param(str.lower, id="lower case"),
        pytest.param(lambda code: code.removeprefix("fgi-"), id="no prefix"),
        pytest.param(lambda code: code.replace("fgi-", "fgi "), id="space for hyphen"),
        pytest.param(lambda code: code.replace("0", "O").replace("1", "l"), id="O and l"),
        pytest.param(lambda code: code.replace("0", "o").replace("1", "I"), id="o and I"),
        pytest.param(lambda code: f"  {code}\r\n", id="surrounding space"),
        pytest.param(lambda code: "-".join(code), id="hyphens all over"),
        pytest.param(lambda code: code[:12] + "\u2011" + code[12:], id="no-break hyphen"),
        pytest.param(lambda code: code[:12] + "\u2014" + code[12:], id="em dash"),
        pytest.param(lambda code: code[:12] + "\u200b" + code[12:], id="zero-width space"),
        pytest.param(lambda code: "\ufeff" + code, id="byte-order mark"),
        pytest.param(
            lambda code: "".join(chr(ord(c) + 0xFEE0) for c in code), id="full-width letters"
        ),
    ],
)
def test_ways_to_type_a_code_that_are_forgiven(retype) -> None:  # type: ignore[no-untyped-def]
    for _ in range(200):
        code = tokens.new_code()
        assert tokens.normalise_code(retype(code)) == code


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "length"),
        ("fgi-", "length"),
        ("hello", "length"),
        ("-" * 100, "length"),
        ("fgi-" + "0" * 25, "length"),
        ("fgi-" + "0" * 27, "length"),
        ("x" * 129, "at most 128"),
        ("\u0130" * 128, "length"),  # grows when its case is changed
        ("\ufdfa" * 128, "length"),  # 18 times as long once normalised
        ("fgi-" + "U" * 26, "character"),
        ("fgi-" + "é" * 26, "character"),
        ("fgi-" + "\u0663" * 26, "character"),  # Arabic digits
        ("fgi-" + "\U0001f600" * 26, "character"),
        ("fgi-" + "\ud800" * 26, "character"),  # a lone surrogate
        ("fgi-" + "0" * 26, "checksum"),
        ("xyz-" + "0" * 26, "length"),
        ("fgi-%2e%2e%2f" + "0" * 17, "character"),
    ],
)
def test_what_a_text_that_is_no_code_is_told(text: str, reason: str) -> None:
    with pytest.raises(CodeMalformed, match=reason) as raised:
        tokens.normalise_code(text)
    assert raised.value.status_code == 400
    assert raised.value.code == "code_malformed"
    assert raised.value.param == "code"


@given(st.text(max_size=200))
def test_any_text_is_either_a_code_or_told_why_not(text: str) -> None:
    assert not is_code(text)
    assert not tokens.is_well_formed_key(text)


@pytest.mark.parametrize(
    "text",
    ["", "fg-", "fg-" + "0" * 36, "sk-" + "0" * 36, "fg-" + "é" * 36, "fg-" + "\ud800" * 36],
)
def test_texts_that_are_no_key(text: str) -> None:
    assert not tokens.is_well_formed_key(text)


@given(keys)
def test_nothing_is_forgiven_in_a_key(key: str) -> None:
    for text in (
        f" {key}",
        f"{key} ",
        f"{key}\n",
        key.upper(),
        key.lower(),
        key[3:],
        f"Bearer {key}",
    ):
        assert text == key or not tokens.is_well_formed_key(text)


# Digests and hints


def test_digest_is_sha256_in_hexadecimal() -> None:
    assert tokens.digest("abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@given(st.text())
def test_any_text_has_a_digest(text: str) -> None:
    assert re.fullmatch("[0-9a-f]{64}", tokens.digest(text))


@given(keys)
def test_hint_shows_four_characters_only(key: str) -> None:
    assert tokens.key_hint(key) == f"fg-…{key[-4:]}"
