"""Certificates made for one test: an authority, what it issues, and lists of what it revoked."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_PEM = serialization.Encoding.PEM


def name_of(common_name: str) -> x509.Name:
    """Return a name with an organisation, as real ones have."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test, Inc"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


class Issued:
    """A certificate and its key."""

    def __init__(self, certificate: x509.Certificate, key: Key) -> None:
        """Keep both."""
        self.certificate = certificate
        self.key = key

    @property
    def pem(self) -> str:
        """The certificate as text."""
        return self.certificate.public_bytes(_PEM).decode()

    def key_pem(self, form: str = "pkcs8", password: str | None = None) -> str:
        """Return the key as text: `pkcs8`, or `traditional` for PKCS#1 and SEC1."""
        kind = serialization.PrivateFormat.PKCS8
        if form == "traditional":
            kind = serialization.PrivateFormat.TraditionalOpenSSL
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            encryption = serialization.BestAvailableEncryption(password.encode())
        return self.key.private_bytes(_PEM, kind, encryption).decode()

    def write(self, directory: Path, name: str = "server") -> tuple[str, str]:
        """Write both into files of a directory; return their paths."""
        certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
        replace(certificate, self.pem)
        replace(key, self.key_pem())
        return str(certificate), str(key)


def replace(path: Path, text: str) -> None:
    """Replace a file in one step."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    os.replace(temporary, path)


class Authority:
    """An authority of this test's own."""

    def __init__(self, above: Authority | None = None) -> None:
        """Make its key and its certificate, which is signed by the authority above, if any."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name_of("intermediate" if above else "authority")
        above = above or self
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self._certificate = (
            above._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .add_extension(above._identifier(), critical=False)
            .sign(above._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(_PEM).decode()

    def _builder(self, subject: x509.Name, key: Key) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

    def issue(self, *names: str, key: Key | None = None) -> Issued:
        """Issue a certificate for a server of these names, or a client of the first."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives.append(x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")))
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            self._builder(name_of(names[0]), key)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(self._identifier(), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(certificate, key)

    def revocations(self, *revoked: Issued) -> str:
        """Return the list of what was revoked."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - datetime.timedelta(hours=1))
            .next_update(now + datetime.timedelta(days=1))
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(self._identifier(), critical=False)
        )
        for issued in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(issued.certificate.serial_number)
                .revocation_date(now - datetime.timedelta(hours=1))
                .build()
            )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM).decode()

    def client(self, certificate: tuple[str, str] | None = None) -> ssl.SSLContext:
        """Return a client's context that trusts this authority and shows a certificate."""
        context = ssl.create_default_context(cadata=self.pem)
        if certificate is not None:
            context.load_cert_chain(*certificate)
        return context
