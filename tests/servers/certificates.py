"""Certificates for tests: authorities that are made in a moment, and folders as a cluster mounts them.

A folder is changed as kubelets change a mounted secret: the files are links into a hidden folder, and one link is
moved, so that all of it is new at once.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority", "Leaf", "mount"]


@dataclass(frozen=True)
class Leaf:
    certificate: bytes
    key: bytes


class Authority:
    """A certificate authority with a key of its own; `pem` is what trusts it."""

    def __init__(self, name: str, *, days: float = 365.0) -> None:
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        self.certificate = self._signed(subject, self.key, days, x509.BasicConstraints(ca=True, path_length=0))
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def leaf(
        self, *names: str, days: float = 30.0, begins_days: float = -30.0, uses: Sequence[x509.ObjectIdentifier] = ()
    ) -> Leaf:
        """For these DNS names and addresses, from `begins_days` to `days` from now; for these uses alone, or any."""
        key = ec.generate_private_key(ec.SECP256R1())
        extensions: list[x509.ExtensionType] = [x509.ExtendedKeyUsage(uses)] if uses else []
        if names:
            extensions.append(x509.SubjectAlternativeName([_of_host(name) for name in names]))
        made = self._signed(_name("program"), key, days, *extensions, begins_days=begins_days)
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Leaf(made.public_bytes(serialization.Encoding.PEM), key.private_bytes(*form))

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        days: float,
        *extensions: x509.ExtensionType,
        begins_days: float = -30.0,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        ends = now + datetime.timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_name(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now + datetime.timedelta(days=begins_days), ends - datetime.timedelta(hours=1)))
            .not_valid_after(ends)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256())


def _of_host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def mount(folder: Path, leaf: Leaf, *trusted: Authority) -> Path:
    """Puts these files there, in place of what was; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    version = folder / f"..v{len(list(folder.glob('..v*'))) + 1}"
    version.mkdir()
    (version / "ca.crt").write_bytes(b"".join(one.pem for one in trusted))
    (version / "tls.crt").write_bytes(leaf.certificate)
    (version / "tls.key").write_bytes(leaf.key)
    (folder / "..next").symlink_to(version.name)
    os.replace(folder / "..next", folder / "..data")
    for name in ("ca.crt", "tls.crt", "tls.key"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    return folder


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
