"""Certificates for a moment: an authority, and one that it has signed."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificates:
    """PEM texts."""

    authority: str
    certificate: str
    key: str
    folder: Path

    def options(self) -> list[str]:
        """What Dask's command line takes."""
        for name in ("authority", "certificate", "key"):
            (self.folder / f"{name}.pem").write_text(getattr(self, name))
        files = {"--tls-ca-file": "authority", "--tls-cert": "certificate", "--tls-key": "key"}
        return [part for option, name in files.items() for part in (option, str(self.folder / f"{name}.pem"))]


def make_certificates(folder: Path, passphrase: str = "") -> Certificates:
    """An authority of its own, and a certificate from it; with a passphrase, its key is encrypted."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("a test's authority")
    authority = _sign(issuer, issuer, authority_key.public_key(), authority_key, authority=True)
    certificate = _sign(_name("dask"), issuer, key.public_key(), authority_key, authority=False)
    encryption = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    kept = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return Certificates(_pem(authority), _pem(certificate), kept.decode(), folder)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _sign(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, key: ec.EllipticCurvePrivateKey, *, authority: bool
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(minutes=5)).not_valid_after(now + dt.timedelta(hours=1))
    return builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True).sign(key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
