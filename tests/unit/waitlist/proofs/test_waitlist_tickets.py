"""Tickets, codes of places and tags: made from a secret, and told from forgeries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitlist.errors import TicketInvalid
from waitlist.proofs import tokens
from waitlist.proofs.tickets import (
    TICKET_CHARS_MAX,
    TicketSigner,
    WaitlistSecretMissing,
    is_entry_id,
    new_entry_id,
)

SIGNER = TicketSigner("a secret that is long enough to be one")
OTHER = TicketSigner("another secret that is long enough, too")


def test_tickets_are_read_back() -> None:
    entry_id = new_entry_id()
    watch, owner = SIGNER.watch_ticket(entry_id), SIGNER.owner_ticket(entry_id)
    assert SIGNER.read(watch) == SIGNER.read(f" {watch}\n")
    assert (SIGNER.read(watch).entry_id, SIGNER.read(watch).owner) == (entry_id, False)
    assert (SIGNER.read(owner).entry_id, SIGNER.read(owner).owner) == (entry_id, True)
    assert len(watch) == len(owner) == TICKET_CHARS_MAX


def test_watching_ticket_does_not_become_the_owners() -> None:
    watch = SIGNER.watch_ticket(new_entry_id())
    with pytest.raises(TicketInvalid):
        SIGNER.read(watch.replace("fgt-", "fgo-"))


@given(position=st.integers(4, TICKET_CHARS_MAX - 1), char=st.sampled_from("0Az9"))
def test_every_changed_character_is_noticed(position: int, char: str) -> None:
    ticket = SIGNER.owner_ticket("abcdefghijkl")
    changed = ticket[:position] + char + ticket[position + 1 :]
    if changed != ticket:
        with pytest.raises(TicketInvalid):
            SIGNER.read(changed)


@given(st.text(max_size=60))
def test_other_texts_are_no_tickets(text: str) -> None:
    with pytest.raises(TicketInvalid):
        SIGNER.read(text)


def test_another_secret_reads_nothing_and_makes_other_codes() -> None:
    entry_id = new_entry_id()
    with pytest.raises(TicketInvalid):
        OTHER.read(SIGNER.watch_ticket(entry_id))
    assert SIGNER.code(entry_id, "batch_1") != OTHER.code(entry_id, "batch_1")
    assert SIGNER.proof_key() != OTHER.proof_key()


def test_code_is_the_same_each_time_and_another_in_another_batch() -> None:
    entry_id = new_entry_id()
    code = SIGNER.code(entry_id, "batch_1")
    assert code == SIGNER.code(entry_id, "batch_1") == tokens.normalise_code(code)
    assert code != SIGNER.code(entry_id, "batch_2")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("::ffff:192.0.2.1", "192.0.2.9", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("", "", True),
        ("testclient", "192.0.2.1", False),
    ],
)
def test_networks_have_tags(one: str, other: str, same: bool) -> None:
    assert (SIGNER.network_tag(one) == SIGNER.network_tag(other)) is same
    assert not one or one not in SIGNER.network_tag(one)


def test_ids_have_their_form_and_differ() -> None:
    ids = {new_entry_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(map(is_entry_id, ids))
    assert is_entry_id(SIGNER.entry_id_of("d" * 64, 1))
    assert SIGNER.entry_id_of("d" * 64, 1) != SIGNER.entry_id_of("d" * 64, 2)
    assert not is_entry_id("../../etc/pw")


def test_missing_secret_is_told_when_it_is_needed() -> None:
    signer = TicketSigner("")
    assert not signer.usable
    with pytest.raises(WaitlistSecretMissing, match="FLOODGATE_WAITLIST_SECRET"):
        signer.watch_ticket(new_entry_id())
