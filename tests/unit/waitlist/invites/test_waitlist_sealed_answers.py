"""Answers under an Idempotency-Key: opened by the same request and by no other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitlist.errors import IdempotencyKeyReused, RequestMalformed
from waitlist.invites.sealed_answers import AnswerSeal

ANSWER = {"api_key": "fg-secret", "account_id": "acct_1"}


def test_same_request_opens_what_it_sealed() -> None:
    sealed = AnswerSeal.of("k-1", "fgi-CODE", "digest").seal(ANSWER)
    assert AnswerSeal.of("k-1", "fgi-CODE", "digest").open(sealed) == ANSWER
    assert "secret" not in sealed


@pytest.mark.parametrize(("key", "code"), [("k-2", "fgi-CODE"), ("k-1", "fgi-OTHER")])
def test_other_requests_have_another_name_and_open_nothing(key: str, code: str) -> None:
    seal, other = AnswerSeal.of("k-1", "fgi-CODE", "digest"), AnswerSeal.of(key, code, "digest")
    assert seal.name != other.name
    with pytest.raises(IdempotencyKeyReused):
        other.open(seal.seal(ANSWER))


def test_another_address_has_another_fingerprint_under_the_same_name() -> None:
    seal, other = AnswerSeal.of("k", "c", "one"), AnswerSeal.of("k", "c", "two")
    assert seal.name == other.name
    assert seal.fingerprint != other.fingerprint


def test_sealing_twice_differs() -> None:
    seal = AnswerSeal.of("k", "c", "d")
    assert seal.seal(ANSWER) != seal.seal(ANSWER)


def test_key_and_code_do_not_run_into_each_other() -> None:
    assert AnswerSeal.of("b", "a", "d").name != AnswerSeal.of("ab", "", "d").name


@given(st.text(max_size=200))
def test_unusable_keys_are_refused_and_others_work(key: str) -> None:
    usable = 1 <= len(key) <= 128 and key.isascii() and key.isprintable()
    if not usable:
        with pytest.raises(RequestMalformed):
            AnswerSeal.of(key, "c", "d")
    else:
        seal = AnswerSeal.of(key, "c", "d")
        assert seal.open(seal.seal(ANSWER)) == ANSWER


def test_secret_shows_in_no_repr() -> None:
    seal = AnswerSeal.of("k", "c", "d")
    assert repr(seal._secret) not in repr(seal)
