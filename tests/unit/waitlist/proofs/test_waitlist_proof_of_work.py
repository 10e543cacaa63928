"""Proof of work: what a solver sends is believed when it is right, and harmless otherwise."""

import base64
import json
import time
from typing import Any

import altcha
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitlist.errors import ProofInvalid
from waitlist.proofs.proof_of_work import ProofOfWork
from waitlist.proofs.tickets import TicketSigner

SIGNER = TicketSigner("a secret that is long enough to be one")
PROOF = ProofOfWork(SIGNER, cost=2, clock=time.time)


def solved(proof: ProofOfWork = PROOF) -> dict[str, Any]:
    challenge = altcha.Challenge.from_dict(proof.challenge())
    solution = altcha.solve_challenge(challenge)
    assert solution is not None
    document: dict[str, Any] = altcha.Payload(challenge, solution).to_dict()
    return document


def encoded(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_right_solution_holds_and_names_its_challenge() -> None:
    document = solved()
    first, second = PROOF.check(encoded(document)), PROOF.check(encoded(solved()))
    assert first is not None
    assert second is not None
    assert first.digest != second.digest
    # However often the same challenge is solved, it is the same proof to spend.
    document["solution"]["time"] = 12
    again = PROOF.check(encoded(document))
    assert again == first


def test_old_and_foreign_challenges_are_refused() -> None:
    old = ProofOfWork(SIGNER, cost=2, clock=lambda: time.time() - 3600)
    with pytest.raises(ProofInvalid, match="too old"):
        PROOF.check(encoded(solved(old)))
    other = TicketSigner("another secret that is long enough, too")
    with pytest.raises(ProofInvalid, match="wrong"):
        PROOF.check(encoded(solved(ProofOfWork(other, cost=2, clock=time.time))))
    cheap = ProofOfWork(SIGNER, cost=1, clock=time.time)
    with pytest.raises(ProofInvalid, match="another challenge"):
        PROOF.check(encoded(solved(cheap)))


def test_none_is_asked_for_where_it_costs_nothing() -> None:
    free = ProofOfWork(SIGNER, cost=0, clock=time.time)
    assert not free.wanted
    assert free.check("") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(field=st.sampled_from(sorted(solved()["challenge"]["parameters"])), value=JSON)
def test_changed_parameters_are_refused(field: str, value: Any) -> None:
    document = solved()
    if document["challenge"]["parameters"][field] != value:
        document["challenge"]["parameters"][field] = value
        with pytest.raises(ProofInvalid):
            PROOF.check(encoded(document))


@given(solution=JSON)
def test_other_solutions_are_refused(solution: Any) -> None:
    document = solved()
    document["solution"] = solution
    with pytest.raises(ProofInvalid):
        PROOF.check(encoded(document))


@given(document=JSON)
def test_other_documents_are_refused(document: Any) -> None:
    with pytest.raises(ProofInvalid):
        PROOF.check(encoded(document))


@given(st.text())
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ProofInvalid):
        PROOF.check(text)
