"""Sockets and secrets of a running Floodgate, tried as a stranger would."""

import asyncio
import ipaddress
import json
import socket
import uuid
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import redis

from serving.processes import read_note
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
    except (psutil.Error, FileNotFoundError):  # it ended meanwhile
        return set()


def command(process: psutil.Process) -> str:
    """Empty for one that ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


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
    names = " ".join(command(process) for process in processes)
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
    url = floodgate.first_replica().url + path
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


async def test_no_log_holds_a_key_a_code_a_prompt_or_a_secret(floodgate: RunningFloodgate) -> None:
    """Neither what our processes write nor what Ray and vLLM write into folders of their own."""
    (made,) = json.loads(floodgate.run("invites", "create", "--json"))["invites"]
    code, email = made["code"], f"{uuid.uuid4()}@example.com"
    prompts = {why: f"prompt-{uuid.uuid4()}" for why in ("served", "gate", "engine")}
    mine = f"e2e-{uuid.uuid4()}"
    async with httpx.AsyncClient(base_url=floodgate.url, timeout=60) as client:
        redeemed = await client.post("/invites/redeem", json={"code": code, "email": email})
        key = redeemed.json()["api_key"]
        client.headers["authorization"] = f"Bearer {key}"
        for why, status, fields in (
            ("served", 200, {}),
            ("gate", 404, {"model": "other"}),
            # The gate takes any JSON schema; the engine finds that it cannot follow this one.
            ("engine", 400, {"structured_outputs": {"json": {"type": "string", "pattern": "("}}}),
        ):
            body = {
                "model": MODEL,
                "messages": [{"role": "user", "content": prompts[why]}],
                "max_tokens": 2,
                **fields,
            }
            headers = {"x-request-id": mine if why == "engine" else why}
            answer = await client.post("/v1/chat/completions", json=body, headers=headers)
            assert answer.status_code == status, f"{why}: {answer.text}"
    note = read_note(floodgate.home)
    assert note is not None
    folders = (floodgate.home / "logs", note.folder / "ray" / "session_latest" / "logs")
    while mine not in (folders[0] / "gateway.log").read_text():
        await asyncio.sleep(0.05)
    secrets = {"key": key, "code": code, "address": email, **prompts}
    secrets |= {"secret": floodgate.engine_secret}
    for name in ("flow_url", "ledger_url"):
        secrets[name] = urlsplit(floodgate.state[name]).password or ""
    for folder in folders:
        logs = [path for path in folder.rglob("*") if path.is_file()]
        assert logs, f"{folder} has no logs"
        for path in logs:
            try:
                found = path.read_bytes()
            except FileNotFoundError:  # Ray took it away meanwhile
                continue
            held = [name for name, secret in secrets.items() if secret.encode() in found]
            assert not held, f"{path} holds {held}"
