"""A private certificate authority: it signs what a test asks for, and nobody else trusts it."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

DAY = dt.timedelta(days=1)
ROLES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


@dataclass(frozen=True)
class Certificate:
    """A signed certificate: as two files for a server, as one for a client."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Signs certificates that nobody else trusts; `file` is what its believers are given."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        own = self._certified(self._name, self._key, DAY)
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        own = own.add_extension(_key_usage(signs=True), critical=True)
        self.file = folder / f"{name.replace(' ', '_')}.pem"
        self.file.write_bytes(_pem(own.sign(self._key, hashes.SHA256())))

    def certificate(self, name: str = "127.0.0.1", *, valid_for: dt.timedelta = DAY) -> Certificate:
        """A certificate for an address or a name; negative `valid_for`: it has expired since."""
        key = ec.generate_private_key(ec.SECP256R1())
        unsigned = self._certified(_named(name), key, valid_for)
        unsigned = unsigned.add_extension(
            x509.SubjectAlternativeName([_alternative(name)]), critical=False
        )
        unsigned = unsigned.add_extension(_key_usage(signs=False), critical=True)
        unsigned = unsigned.add_extension(x509.ExtendedKeyUsage(ROLES), critical=False)
        return self._written(name, key, unsigned.sign(self._key, hashes.SHA256()))

    def _certified(
        self, subject: x509.Name, key: EllipticCurvePrivateKey, valid_for: dt.timedelta
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder(
                issuer_name=self._name,
                subject_name=subject,
                public_key=key.public_key(),
                serial_number=x509.random_serial_number(),
                not_valid_before=now - 9 * DAY,
                not_valid_after=now + valid_for,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
            )
        )

    def _written(
        self, name: str, key: EllipticCurvePrivateKey, certificate: x509.Certificate
    ) -> Certificate:
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        stem = f"{name}-{certificate.serial_number:x}"[:40]
        files = Certificate(*(self._folder / f"{stem}.{end}" for end in ("crt", "key", "pem")))
        files.certificate.write_bytes(_pem(certificate))
        files.key.write_bytes(secret)
        files.both.write_bytes(_pem(certificate) + secret)
        return files


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
