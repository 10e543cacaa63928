"""A certificate authority that lives for one run, so that Ray's sockets answer only to Ray.

Ray binds some of its gRPC ports to every interface, and one of them unpickles what it is sent.
With RAY_USE_TLS they take nothing from a peer without a certificate of this authority, whose key
is dropped as soon as the one certificate is signed.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# Longer than any run; a run makes its own.
_LIFE = dt.timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths of PEM files, readable by their owner alone."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(
    folder: Path, *, addresses: Sequence[str] = ("127.0.0.1", "::1"), now: dt.datetime
) -> Certificates:
    """Write an authority and one certificate for `addresses` and localhost into `folder`.

    `now` has a time zone. Raises OSError if the folder cannot be written.
    """
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("floodgate run authority")
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        _builder(_name("floodgate run"), authority_name, key.public_key(), now)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    paths = Certificates(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
    _write_private(paths.authority, authority.public_bytes(serialization.Encoding.PEM))
    _write_private(paths.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    _write_private(
        paths.key,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    return paths


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # A machine whose clock is set back a little must still accept its own certificate.
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + _LIFE)
    )


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
