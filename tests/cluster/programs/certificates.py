"""One authority and what it has signed, by openssl: servers and clients of the cluster, also those that tests make up.

A client is who its certificate says: common name = user, organizations = groups. Keys are of P-256 and live for a day.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Authority", "Pair"]

DAYS = "2"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
# The machine's own configuration would call every certificate an authority.
_CONFIG = "[req]\ndistinguished_name = name\n[name]\n"


@dataclass(frozen=True)
class Pair:
    """Files in PEM."""

    certificate: Path
    key: Path


class Authority:
    """Signs; its files lie in `folder`, a pair is made once for its name. Raises subprocess.CalledProcessError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "openssl.cnf").write_text(_CONFIG)
        self.pair = Pair(folder / "ca.crt", folder / "ca.key")
        extensions = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")
        self._request(self.pair, "/CN=cluster for tests", (*extensions, "subjectKeyIdentifier=hash"), ())

    @property
    def certificate(self) -> Path:
        return self.pair.certificate

    def server(self, name: str, *, names: Sequence[str], addresses: Sequence[str]) -> Pair:
        """Of a program that is called by these DNS names and addresses."""
        alternatives = ",".join([*(f"DNS:{one}" for one in names), *(f"IP:{one}" for one in addresses)])
        return self._leaf(name, f"/CN={name}", ("extendedKeyUsage=serverAuth", f"subjectAltName={alternatives}"))

    def client(self, user: str, *, groups: Sequence[str] = ()) -> Pair:
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        return self._leaf(f"{user}.{'.'.join(groups)}", subject, ("extendedKeyUsage=clientAuth",))

    def signing_key(self, name: str) -> Pair:
        """A public and a private key without a certificate, for what signs by itself."""
        pair = Pair(self.folder / f"{name}.pub", self.folder / f"{name}.key")
        if not pair.certificate.exists():
            _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(pair.key))
            _openssl("pkey", "-in", str(pair.key), "-pubout", "-out", str(pair.certificate))
        return pair

    def _leaf(self, name: str, subject: str, extensions: Sequence[str]) -> Pair:
        file = name.replace("/", "_").replace(":", "_")
        pair = Pair(self.folder / f"{file}.crt", self.folder / f"{file}.key")
        if not pair.certificate.exists():
            usual = ("basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature")
            identifiers = ("subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid")
            signed = ("-CA", str(self.pair.certificate), "-CAkey", str(self.pair.key))
            self._request(pair, subject, (*usual, *identifiers, *extensions), signed)
        return pair

    def _request(self, pair: Pair, subject: str, extensions: Sequence[str], signed: Sequence[str]) -> None:
        added = [word for extension in extensions for word in ("-addext", extension)]
        files = ("-keyout", str(pair.key), "-out", str(pair.certificate))
        config = ("-config", str(self.folder / "openssl.cnf"))
        _openssl("req", "-x509", *config, *_KEY, "-days", DAYS, "-subj", subject, *added, *signed, *files)


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
