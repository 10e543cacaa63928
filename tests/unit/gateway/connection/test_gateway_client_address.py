import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.connection.client_address import client_address, is_forwarded, trusted_networks

TRUSTED = trusted_networks("10.0.0.0/8, ::1, 127.0.0.1")


def seen(peer: str, *headers: tuple[str, str]) -> str:
    return client_address(peer, [(n.encode(), v.encode("latin-1")) for n, v in headers], TRUSTED)


def test_a_stranger_is_not_believed() -> None:
    assert seen("192.0.2.1", ("x-forwarded-for", "127.0.0.1")) == "192.0.2.1"
    assert client_address("10.0.0.1", [(b"x-forwarded-for", b"192.0.2.9")], ()) == "10.0.0.1"
    assert client_address("", [], TRUSTED) == ""


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("127.0.0.1, 192.0.2.7", "192.0.2.7"),
        ("198.51.100.1, 192.0.2.7, 10.1.2.3", "192.0.2.7"),
        ("192.0.2.7:4711", "192.0.2.7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("10.9.9.9, 10.1.2.3", "10.9.9.9"),
        ("192.0.2.7, nonsense", "10.0.0.1"),
        ("192.0.2.7, nonsense, 10.1.2.3", "10.1.2.3"),
        ("", "10.0.0.1"),
        (",,", "10.0.0.1"),
        ("\xff", "10.0.0.1"),
    ],
)
def test_the_right_most_hop_that_is_no_proxy_counts(value: str, address: str) -> None:
    assert seen("10.0.0.1", ("x-forwarded-for", value)) == address


def test_headers_that_stand_twice_are_one_list() -> None:
    headers = (("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "192.0.2.7"))
    assert seen("10.0.0.1", *headers) == "192.0.2.7"


def test_forwarded_is_read_too() -> None:
    value = 'for=198.51.100.1, for="[2001:db8::7]:80";proto=https, for=10.1.1.1;by=10.0.0.1'
    assert seen("10.0.0.1", ("forwarded", value)) == "2001:db8::7"
    assert seen("10.0.0.1", ("forwarded", "for=_hidden, proto=http")) == "10.0.0.1"


def test_headers_that_contradict_each_other_are_ignored() -> None:
    ours, theirs = ("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.8")
    assert seen("10.0.0.1", ours, theirs) == "10.0.0.1"
    assert seen("10.0.0.1", ours, ("forwarded", "for=192.0.2.7")) == "192.0.2.7"
    assert is_forwarded([(b"forwarded", b"")])
    assert not is_forwarded([(b"host", b"")])


def test_a_wrong_network_is_named() -> None:
    assert trusted_networks("") == ()
    with pytest.raises(ValueError, match="nonsense"):
        trusted_networks("10.0.0.0/8,nonsense")


@given(st.lists(st.text(alphabet='0123456789.:[],;for="x ', max_size=30), max_size=3))
def test_no_header_causes_an_error(values: list[str]) -> None:
    for name in ("x-forwarded-for", "forwarded"):
        assert seen("10.0.0.1", *((name, value) for value in values))
