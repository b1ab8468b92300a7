"""What stands in a TLS folder: `ca.crt`, `tls.crt`, `tls.key`, read whole, checked, with their dates and names.

Reading has no side effects and keeps nothing. A folder that can't be used is refused with every problem at once, each
by its path. What has ended is no such problem: it is told by `ended`, since time alone brings it about.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from penstock.runtime.errors import InvalidInput

__all__ = [
    "CA",
    "CERTIFICATE",
    "CLIENT",
    "FILES",
    "KEY",
    "SERVER",
    "Certificates",
    "date_text",
    "dns_names",
    "read",
    "valid_from_to",
]

SERVER, CLIENT = "server auth", "client auth"
CA, CERTIFICATE, KEY = "ca.crt", "tls.crt", "tls.key"
FILES = (CA, CERTIFICATE, KEY)


@dataclass(frozen=True)
class Certificates:
    """One reading of a folder.

    chain: tls.crt, the program's own certificate first; names: its DNS names; not_before, not_after: its time; issuer:
    who signed it; usages: what of `SERVER` and `CLIENT` it is good for; authority_ends: until when the authority in
    ca.crt that signed it holds (None: none of them did).
    """

    folder: Path
    ca: bytes
    chain: bytes
    key: bytes
    names: tuple[str, ...]
    not_before: datetime.datetime
    not_after: datetime.datetime
    issuer: str
    usages: frozenset[str]
    authorities: tuple[x509.Certificate, ...]
    authority_ends: datetime.datetime | None

    def ended(self, now: datetime.datetime) -> str:
        """Why it can't be used at `now`, by path and date; "" while it can."""
        path = self.folder / CERTIFICATE
        if now >= self.not_after:
            return f"the certificate {path} ended on {date_text(self.not_after)}: put a new one there"
        if now < self.not_before:
            return f"the certificate {path} begins on {date_text(self.not_before)}: put one there that holds now"
        if self.authority_ends is not None and now >= self.authority_ends:
            return (
                f"the authority that signed {path} ended on {date_text(self.authority_ends)}: put a new one into "
                f"{self.folder / CA}, and certificates of its own there"
            )
        return ""

    def trusts(self, certificate: x509.Certificate) -> bool:
        """Whether an authority in ca.crt signed it itself."""
        return _signer(certificate, self.authorities) is not None


def date_text(when: datetime.datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC")


def valid_from_to(certificate: x509.Certificate) -> tuple[datetime.datetime, datetime.datetime]:
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def read(folder: Path) -> Certificates:
    """Raises InvalidInput (code `tls`) that names every file that is missing or is not what it has to be."""
    texts: dict[str, bytes] = {}
    problems: list[str] = []
    if not folder.is_dir():
        raise InvalidInput(f"tls.folder {folder}: there is no such folder; it holds {', '.join(FILES)}", code="tls")
    for name in FILES:
        try:
            texts[name] = (folder / name).read_bytes()
        except FileNotFoundError:
            problems.append(f"{folder / name} is missing")
        except OSError as error:
            problems.append(f"{folder / name} can't be read: {error.strerror}")
    authorities = _certificates(folder / CA, texts, problems)
    chain = _certificates(folder / CERTIFICATE, texts, problems)
    key = _key(folder / KEY, texts, problems)
    if chain and key is not None and _public(key.public_key()) != _public(chain[0].public_key()):
        problems.append(f"the key {folder / KEY} does not belong to the certificate {folder / CERTIFICATE}")
    if problems:
        raise InvalidInput("tls.folder can't be used:\n  " + "\n  ".join(problems), code="tls")
    leaf = chain[0]
    begins, ends = valid_from_to(leaf)
    signer = _authority(leaf, chain[1:], authorities)
    return Certificates(
        folder=folder,
        ca=texts[CA],
        chain=texts[CERTIFICATE],
        key=texts[KEY],
        names=dns_names(leaf),
        not_before=begins,
        not_after=ends,
        issuer=leaf.issuer.rfc4514_string() or "(no name)",
        usages=_usages(leaf),
        authorities=tuple(authorities),
        authority_ends=None if signer is None else valid_from_to(signer)[1],
    )


def dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(names.get_values_for_type(x509.DNSName))


def _usages(certificate: x509.Certificate) -> frozenset[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset((SERVER, CLIENT))
    kinds = {ExtendedKeyUsageOID.SERVER_AUTH: SERVER, ExtendedKeyUsageOID.CLIENT_AUTH: CLIENT}
    return frozenset(kinds[one] for one in found if one in kinds)


def _certificates(path: Path, texts: dict[str, bytes], problems: list[str]) -> list[x509.Certificate]:
    if path.name not in texts:
        return []
    try:
        return x509.load_pem_x509_certificates(texts[path.name])
    except ValueError:
        problems.append(f"{path} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
        return []


def _key(
    path: Path, texts: dict[str, bytes], problems: list[str]
) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None:
    if path.name not in texts:
        return None
    try:
        key = serialization.load_pem_private_key(texts[path.name], None)
    except TypeError:
        problems.append(f"the key {path} is under a passphrase: it has to be without one")
    except (ValueError, UnsupportedAlgorithm):
        problems.append(f"{path} holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)")
    else:
        if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            return key
        problems.append(f"the key {path} is of a kind that gRPC does not take: RSA and ECDSA are what it does")
    return None


def _public(key: object) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    made: bytes = key.public_bytes(serialization.Encoding.DER, form)  # type: ignore[attr-defined]
    return made


def _authority(
    leaf: x509.Certificate, between: list[x509.Certificate], authorities: list[x509.Certificate]
) -> x509.Certificate | None:
    """The authority that the leaf comes from, by way of what stands between in the chain."""
    at = leaf
    for _ in range(len(between) + 1):
        if (found := _signer(at, authorities)) is not None:
            return found
        nearer = _signer(at, between)
        if nearer is None or nearer is at:
            return None
        at = nearer
    return None


def _signer(
    certificate: x509.Certificate, among: list[x509.Certificate] | tuple[x509.Certificate, ...]
) -> x509.Certificate | None:
    """Of several that signed it, as an authority's old and new certificate over one key, the one that lasts longest."""
    found = []
    for one in among:
        try:
            certificate.verify_directly_issued_by(one)
        except (InvalidSignature, TypeError, ValueError, UnsupportedAlgorithm):
            continue
        found.append(one)
    return max(found, key=lambda one: one.not_valid_after_utc, default=None)
