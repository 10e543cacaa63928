"""Only holders of this run's certificate get through a handshake."""

import datetime as dt
import ssl
from pathlib import Path

import pytest

from serving.tls import Certificates, make_certificates

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path, now=NOW)


def _context(purpose: ssl.Purpose, authority: Path, own: Certificates | None) -> ssl.SSLContext:
    context = ssl.create_default_context(purpose, cafile=str(authority))
    context.verify_mode = ssl.CERT_REQUIRED
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """Both ends of a handshake in memory. Raises ssl.SSLError when either end refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "::1"])
def test_holders_connect(certificates: Certificates, name: str) -> None:
    server = _context(ssl.Purpose.CLIENT_AUTH, certificates.authority, certificates)
    client = _context(ssl.Purpose.SERVER_AUTH, certificates.authority, certificates)
    _handshake(server, client, name)


def test_strangers_do_not(certificates: Certificates) -> None:
    server = _context(ssl.Purpose.CLIENT_AUTH, certificates.authority, certificates)
    client = _context(ssl.Purpose.SERVER_AUTH, certificates.authority, None)
    with pytest.raises(ssl.SSLError):
        _handshake(server, client, "127.0.0.1")


def test_another_run_is_a_stranger(certificates: Certificates, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_certificates(tmp_path / "other", now=NOW)
    server = _context(ssl.Purpose.CLIENT_AUTH, certificates.authority, certificates)
    client = _context(ssl.Purpose.SERVER_AUTH, certificates.authority, other)
    with pytest.raises(ssl.SSLError):
        _handshake(server, client, "127.0.0.1")


def test_files_are_private(certificates: Certificates) -> None:
    for path in (certificates.authority, certificates.certificate, certificates.key):
        assert path.stat().st_mode & 0o077 == 0


def test_the_authoritys_key_is_not_kept(certificates: Certificates, tmp_path: Path) -> None:
    keys = [path for path in tmp_path.iterdir() if "PRIVATE KEY" in path.read_text()]
    assert keys == [certificates.key]


def test_files_of_a_run_are_never_overwritten(certificates: Certificates, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        make_certificates(tmp_path, now=NOW)
