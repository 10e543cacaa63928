"""What counts as a torn tail of an append-only file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitlist.upkeep.ledger_tail import is_cut_short


def command(*words: bytes) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


words = st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=4)
commands = st.lists(words.map(lambda w: command(b"SET", *w)), min_size=1, max_size=4)


def transaction(body: list[bytes]) -> bytes:
    return command(b"MULTI") + b"".join(body) + command(b"EXEC")


@given(commands, st.data())
def test_every_beginning_of_a_transaction_is_a_torn_tail(
    body: list[bytes], data: st.DataObject
) -> None:
    whole = transaction(body)
    assert is_cut_short(whole[: data.draw(st.integers(1, len(whole) - 1))])


@given(words, st.data())
def test_every_beginning_of_a_command_is_a_torn_tail(
    body: list[bytes], data: st.DataObject
) -> None:
    whole = command(b"SET", *body)
    assert is_cut_short(whole[: data.draw(st.integers(1, len(whole) - 1))])


@given(commands, commands, st.data())
def test_a_whole_transaction_is_never_cut_off_as_a_tail(
    first: list[bytes], second: list[bytes], data: st.DataObject
) -> None:
    begun = transaction(second)
    tail = transaction(first) + begun[: data.draw(st.integers(0, len(begun)))]
    assert not is_cut_short(tail)


@given(st.binary(max_size=40))
def test_any_bytes_are_judged(tail: bytes) -> None:
    assert is_cut_short(tail) in (True, False)


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b"\0" * 4096,
        b"hello",
        b"*x\r\n",
        b"*\r\n",
        b"*1\n",
        b"*99999999999\r\n",
        b"*-1\r\n",
        b"$3\r\nSET\r\n",
        b"*2\r\n*3\r\n",
        b"*1\r\n$3\r\nSETxx",
        command(b"SET", b"a", b"1"),
        command(b"SET", b"a", b"1") + b"*1\r",
    ],
)
def test_other_damage_is_no_torn_tail(tail: bytes) -> None:
    assert not is_cut_short(tail)
