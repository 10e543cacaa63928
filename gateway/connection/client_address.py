"""Whom a request comes from, where proxies stand in front. Pure.

A forwarding header is believed from a trusted peer alone, and in it each hop only as far as the
one that wrote it is trusted: the address is the right-most that is not a trusted proxy's own.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# A longer chain is no chain of proxies; what stands left of these hops is not looked at.
_HOPS_MAX = 32
_FORWARDED_FOR = re.compile(r'(?:^|;)\s*for="?([^";,]+)"?\s*(?:;|$)', re.IGNORECASE)


def trusted_networks(setting: str) -> tuple[Network, ...]:
    """Networks from a comma-separated setting; a single address is a network of one.

    Raises:
        ValueError: an entry is neither.
    """
    entries = (entry.strip() for entry in setting.split(","))
    return tuple(ipaddress.ip_network(entry) for entry in entries if entry)


def client_address(
    peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network]
) -> str:
    """The address that the request comes from; the peer's own unless the peer is trusted.

    peer: the socket's other end. headers: names in lower case, as ASGI has them.
    Wrong headers, and two that contradict each other, are ignored.
    """
    if not trusted:
        return peer
    address = _parse(peer)
    if address is None or not _is_in(address, trusted):
        return peer
    headers = list(headers)
    chains = [
        chain
        for chain in (
            _values(headers, b"x-forwarded-for"),
            [_for(element) for element in _values(headers, b"forwarded")],
        )
        if chain
    ]
    # Two headers: the proxy writes one of them, and the other is the caller's.
    found = {_right_most_untrusted(address, chain, trusted) for chain in chains}
    return str(found.pop() if len(found) == 1 else address)


def is_forwarded(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether some proxy says that it asks for somebody else."""
    return any(name in (b"x-forwarded-for", b"forwarded") for name, _ in headers)


def _right_most_untrusted(
    peer: Address, chain: Sequence[str], trusted: Sequence[Network]
) -> Address:
    nearest = peer
    for hop in reversed(chain[-_HOPS_MAX:]):
        address = _parse(hop)
        if address is None:
            return nearest
        nearest = address
        if not _is_in(address, trusted):
            break
    return nearest


def _values(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> list[str]:
    joined = b",".join(value for name, value in headers if name == wanted)
    return [hop.strip() for hop in joined.decode("latin-1").split(",")] if joined else []


def _for(element: str) -> str:
    found = _FORWARDED_FOR.search(element)
    return found.group(1) if found else ""


def _parse(hop: str) -> Address | None:
    """An address with or without port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[…]:80`."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        address = ipaddress.ip_address(hop)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
