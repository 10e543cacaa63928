"""Sockets and secrets of a running Floodgate, tried as a stranger would."""

import ipaddress
import socket

import httpx
import psutil
import pytest
import redis

from tests.running_floodgate import MODEL, RunningFloodgate

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

EVERY_ADDRESS = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    try:
        return {
            (connection.laddr.ip, connection.laddr.port)
            for connection in process.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN
        }
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return set()


def is_loopback(address: str) -> bool:
    """Also of an IPv4 address that is written as IPv6, as gRPC's sockets show it."""
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def strangers_addresses() -> list[tuple[socket.AddressFamily, str]]:
    """This machine's addresses that are not loopback: connecting to them never leaves it.

    A link-local one bears its scope, as in fe80::1%eth0.
    """
    return [
        (address.family, address.address)
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(address.address)
    ]


def answers(family: socket.AddressFamily, address: str, port: int) -> bool:
    """Whether somebody accepts a connection there."""
    with socket.socket(family) as probe:
        probe.settimeout(2)
        # What to connect to is as long as the family wants it: IPv6 has a scope as well.
        ((_, _, _, _, target),) = socket.getaddrinfo(
            address, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
        return probe.connect_ex(target) == 0


def test_only_the_gateways_port_answers_beyond_loopback(floodgate: RunningFloodgate) -> None:
    processes = floodgate.processes()
    names = " ".join(" ".join(process.cmdline()) for process in processes if process.is_running())
    for part in ("gcs_server", "raylet", "redis-server", "ServeReplica"):
        assert part in names, f"{part} was not looked at"
    sockets = set().union(*(listening(process) for process in processes))
    assert len(sockets) > 10, "Ray alone listens on a dozen"
    beyond = {(ip, port) for ip, port in sockets if not is_loopback(ip)}
    assert {port for _, port in beyond} <= {floodgate.port}, beyond
    strangers = strangers_addresses()
    assert strangers, "this machine has no address that a stranger could use"
    for family, address in strangers:
        with socket.create_server((EVERY_ADDRESS[family], 0), family=family) as open_one:
            assert answers(family, address, open_one.getsockname()[1]), "the probe itself works"
        for port in {port for _, port in sockets} - {floodgate.port}:
            assert not answers(family, address, port), f"{address} port {port} answers strangers"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/invocations"),
        ("POST", "/tokenize"),
        ("POST", "/detokenize"),
        ("POST", "/pooling"),
        ("POST", "/v1/load_lora_adapter"),
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("GET", "/health"),
        ("GET", "/openapi.json"),
    ],
)
def test_the_engine_refuses_whoever_lacks_the_secret(
    floodgate: RunningFloodgate, method: str, path: str
) -> None:
    body = {"model": MODEL, "prompt": "hi", "messages": [{"role": "user", "content": "hi"}]}
    url = floodgate.replicas()[0].url + path
    for headers in (
        {},
        {"x-floodgate-engine-secret": "wrong"},
        {"authorization": f"Bearer {floodgate.engine_secret}"},
    ):
        answer = httpx.request(method, url, json=body, headers=headers, timeout=10)
        assert answer.status_code == 401, f"{path}: {answer.status_code} {answer.text[:200]}"


def test_both_redis_servers_want_a_password(floodgate: RunningFloodgate) -> None:
    for name in ("flow_url", "ledger_url"):
        url: str = floodgate.state[name]
        stranger = "redis://" + url.split("@")[1]
        with redis.Redis.from_url(stranger) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
