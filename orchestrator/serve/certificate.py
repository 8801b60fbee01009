"""The certificate of the TLS proxy: made once, self-signed, and given to the workers."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrator.base.files import write_whole

_DAYS = 3650
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, as PEM files.

    Attributes:
        public: the certificate; others verify the server with it.
        private: the key, for its owner only (mode 600).
    """

    public: Path
    private: Path

    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, as ``openssl x509 -fingerprint -sha256`` prints it."""
        return self._load().fingerprint(hashes.SHA256()).hex(":").upper()

    def names(self) -> set[str]:
        """The host names and addresses that it is for."""
        extension = self._load().extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return {str(each.value) for each in extension.value}

    def _load(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.public.read_bytes())


def certificate_for(folder: Path, names: Sequence[str]) -> Certificate:
    """The certificate in the folder, made when none is there that is for all these names.

    Args:
        folder: where ``server.crt`` and ``server.key`` are kept.
        names: host names and addresses by which others reach the server.

    Raises:
        OSError: the folder cannot be written.
    """
    found = Certificate(folder / "server.crt", folder / "server.key")
    if found.public.exists() and found.private.exists() and set(names) <= found.names():
        return found
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orch")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)  # clocks differ
        .not_valid_after(now + _DAYS * _DAY)
        .add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_whole(found.private, private, private=True)
    write_whole(found.public, certificate.public_bytes(pem))
    return found


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
