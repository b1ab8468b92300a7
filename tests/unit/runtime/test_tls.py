"""The TLS folder: what is refused at start and how it is said, and what is taken while a program runs."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID
from prometheus_client import REGISTRY

from penstock.runtime import certificates, metrics
from penstock.runtime.errors import InvalidInput, Unavailable
from penstock.runtime.settings import Settings, TlsSection
from penstock.runtime.tls import LOOK_SECONDS, Identity, proof_of
from tests.servers.certificates import Authority, Leaf, mount

DAY = 86_400.0


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("ours")


class Clock:
    """Wall clock and monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.wall = datetime.datetime.now(datetime.UTC).timestamp()
        self.steady = 0.0

    def identity(self, folder: Path) -> Identity:
        return Identity(folder, now=lambda: self.wall, monotonic=lambda: self.steady)

    def later(self, seconds: float = LOOK_SECONDS) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def refused(folder: Path) -> str:
    with pytest.raises(InvalidInput) as error:
        certificates.read(folder)
    assert error.value.code == "tls"
    return error.value.message


def test_a_folder_says_its_names_dates_and_signer(tmp_path: Path, authority: Authority) -> None:
    held = certificates.read(mount(tmp_path / "tls", authority.leaf("penstock-planner", "planner"), authority))
    assert held.names == ("penstock-planner", "planner")
    assert held.issuer == "CN=ours"
    assert held.authority_ends == authority.certificate.not_valid_after_utc
    assert not held.ended(datetime.datetime.now(datetime.UTC))


def test_a_folder_that_is_not_there_is_said_by_its_path(tmp_path: Path) -> None:
    assert refused(tmp_path / "no").startswith(
        f"tls.folder {tmp_path / 'no'}: there is no such folder; it holds ca.crt"
    )


def test_every_missing_file_is_said_at_once(tmp_path: Path, authority: Authority) -> None:
    folder = mount(tmp_path / "tls", authority.leaf("x"), authority)
    (folder / "ca.crt").unlink()
    (folder / "tls.key").unlink()
    told = refused(folder)
    assert f"{folder / 'ca.crt'} is missing" in told
    assert f"{folder / 'tls.key'} is missing" in told


def test_a_key_of_another_certificate_is_said(tmp_path: Path, authority: Authority) -> None:
    leaf = Leaf(authority.leaf("x").certificate, authority.leaf("x").key)
    folder = mount(tmp_path / "tls", leaf, authority)
    assert f"the key {folder / 'tls.key'} does not belong to the certificate {folder / 'tls.crt'}" in refused(folder)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("ca.crt", b"", "holds no certificate"),
        ("tls.crt", b"-----BEGIN CERTIFICATE-----\nnonsense\n", "holds no certificate"),
        ("tls.key", b"\x00\x01", "holds no private key"),
    ],
)
def test_what_is_no_pem_is_said(tmp_path: Path, authority: Authority, file: str, content: bytes, words: str) -> None:
    folder = mount(tmp_path / "tls", authority.leaf("x"), authority)
    (folder / file).write_bytes(content)
    assert f"{folder / file} {words}" in refused(folder)


@pytest.mark.parametrize("kind", ["passphrase", "ed25519"])
def test_keys_that_grpc_can_not_use_are_said(tmp_path: Path, authority: Authority, kind: str) -> None:
    folder = mount(tmp_path / "tls", authority.leaf("x"), authority)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    if kind == "passphrase":
        key = ec.generate_private_key(ec.SECP256R1())
        (folder / "tls.key").write_bytes(key.private_bytes(pem, form, serialization.BestAvailableEncryption(b"x")))
        assert "is under a passphrase" in refused(folder)
    else:
        other = ed25519.Ed25519PrivateKey.generate()
        (folder / "tls.key").write_bytes(other.private_bytes(pem, form, serialization.NoEncryption()))
        assert "RSA and ECDSA" in refused(folder)


async def test_a_certificate_that_has_ended_is_said_by_path_and_date(
    tmp_path: Path, authority: Authority, clock: Clock
) -> None:
    folder = mount(tmp_path / "tls", authority.leaf("penstock-planner", days=10), authority)
    identity = clock.identity(folder)
    await identity.check()
    clock.later(10 * DAY)
    ends = certificates.date_text(identity.current().not_after)
    with pytest.raises(Unavailable) as error:
        await identity.check()
    assert error.value.message == f"the certificate {folder / 'tls.crt'} ended on {ends}: put a new one there"
    assert str(tmp_path) not in error.value.cause, "readiness is for everybody"


async def test_an_authority_that_has_ended_is_said_too(tmp_path: Path, clock: Clock) -> None:
    short = Authority("short", days=5)
    identity = clock.identity(mount(tmp_path / "tls", short.leaf("x", days=10), short))
    clock.later(6 * DAY)
    with pytest.raises(Unavailable, match="the authority that signed"):
        await identity.check()


async def test_of_two_authorities_one_of_which_has_ended_the_other_counts(tmp_path: Path, clock: Clock) -> None:
    old, new = Authority("old", days=5), Authority("new")
    identity = clock.identity(mount(tmp_path / "tls", new.leaf("x"), old, new))
    clock.later(6 * DAY)
    await identity.check()


def test_the_metric_says_the_seconds_that_are_left(tmp_path: Path, authority: Authority, clock: Clock) -> None:
    clock.identity(mount(tmp_path / "tls", authority.leaf("x", days=3), authority))

    def left(file: str) -> float:
        return REGISTRY.get_sample_value("penstock_certificate_expiry_seconds", {"file": file}) or 0.0

    assert left("tls.crt") == pytest.approx(3 * DAY, abs=60)
    assert left("ca.crt") == pytest.approx(365 * DAY, abs=60)
    clock.wall += 4 * DAY
    assert left("tls.crt") == pytest.approx(-DAY, abs=60)


def test_new_files_are_seen_once_a_second_and_at_each_handshake(
    tmp_path: Path, authority: Authority, clock: Clock
) -> None:
    folder = mount(tmp_path / "tls", authority.leaf("a"), authority)
    identity = clock.identity(folder)
    first = identity.current()
    mount(folder, authority.leaf("b"), authority)
    assert identity.current() is first
    clock.later()
    assert identity.current().names == ("b",)
    mount(folder, authority.leaf("c"), authority)
    assert identity.look().names == ("c",)
    assert identity.look() is identity.current(), "the same value until the files change"


@pytest.mark.parametrize("wrong", ["half", "another's", "ended", "not yet"])
async def test_new_files_that_can_not_be_used_are_not_taken_and_later_ones_are(
    tmp_path: Path, authority: Authority, clock: Clock, wrong: str
) -> None:
    folder = mount(tmp_path / "tls", authority.leaf("penstock-planner"), authority)
    identity = clock.identity(folder)
    identity.expect("planner")
    first = identity.current()
    refused_now = metrics.CERTIFICATE_REFUSED.labels("tls.crt")
    good = authority.leaf("penstock-planner")
    bad = {
        "half": Leaf(good.certificate, authority.leaf("penstock-planner").key),
        "another's": authority.leaf("penstock-analyzer"),
        "ended": authority.leaf("penstock-planner", days=-1),
        "not yet": authority.leaf("penstock-planner", begins_days=1),
    }[wrong]
    mount(folder, bad, authority)
    assert identity.look() is first
    await identity.check()
    assert refused_now._value.get() == 1
    if wrong == "not yet":
        clock.later(2 * DAY)
    else:
        mount(folder, good, authority)
    assert identity.look() is not first
    assert refused_now._value.get() == 0


async def test_what_is_refused_is_told_when_the_old_has_ended(
    tmp_path: Path, authority: Authority, clock: Clock
) -> None:
    folder = mount(tmp_path / "tls", authority.leaf("x", days=1), authority)
    identity = clock.identity(folder)
    (folder / "tls.key").unlink()
    clock.later(2 * DAY)
    with pytest.raises(Unavailable, match=r"ended on .* \(what is there now can't be used: (.|\n)*tls.key is missing"):
        await identity.check()


def test_a_program_with_another_s_certificate_does_not_start(tmp_path: Path, authority: Authority) -> None:
    identity = Identity(mount(tmp_path / "tls", authority.leaf("penstock-planner"), authority))
    identity.expect("planner")
    with pytest.raises(InvalidInput, match=r"is another's: its DNS names \(penstock-planner\) have no penstock-worker"):
        identity.expect("worker")


@pytest.mark.parametrize(
    ("program", "use", "lacking"),
    [
        ("planner", ExtendedKeyUsageOID.SERVER_AUTH, "client auth"),
        ("planner", ExtendedKeyUsageOID.CLIENT_AUTH, "server auth"),
        ("gateway", ExtendedKeyUsageOID.SERVER_AUTH, "client auth"),
        ("gateway", ExtendedKeyUsageOID.CLIENT_AUTH, ""),
        ("analyzer", ExtendedKeyUsageOID.SERVER_AUTH, ""),
    ],
)
def test_a_certificate_for_another_use_is_said(
    tmp_path: Path, authority: Authority, program: str, use: x509.ObjectIdentifier, lacking: str
) -> None:
    identity = Identity(mount(tmp_path / "tls", authority.leaf(f"penstock-{program}", uses=[use]), authority))
    if not lacking:
        identity.expect(program)
        return
    with pytest.raises(InvalidInput, match=f"is not for the use that penstock-{program} has for it: {lacking} is"):
        identity.expect(program)


def test_files_that_are_put_back_are_refused_no_more(tmp_path: Path, authority: Authority) -> None:
    folder = mount(tmp_path / "tls", authority.leaf("x"), authority)
    identity = Identity(folder)
    old = (folder / "..data").readlink()
    mount(folder, Leaf(b"", b""), authority)
    identity.look()
    refused_now = metrics.CERTIFICATE_REFUSED.labels("tls.crt")
    assert refused_now._value.get() == 1
    (folder / "..data").unlink()
    (folder / "..data").symlink_to(old)
    identity.look()
    assert refused_now._value.get() == 0


def test_a_program_without_certificates_loads_nothing_to_read_them() -> None:
    imports = "import sys, planner.__main__, scheduler.__main__, gateway.__main__, worker.__main__, penstock.cli.app"
    names = "{'cryptography.x509', 'penstock.runtime.certificates', 'penstock.runtime.handshakes'}"
    asked = f"{imports}; print(sorted({names} & set(sys.modules)))"
    command = [sys.executable, "-c", asked]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout == "[]\n"


def test_without_a_folder_the_token_is_the_proof(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "token").write_text("secret\n")
    assert proof_of(Settings(token_file=tmp_path / "token")) == "secret"
    assert proof_of(Settings()) is None
    folder = mount(tmp_path / "tls", authority.leaf("x"), authority)
    settings = Settings(token_file=tmp_path / "token", tls=TlsSection(folder=str(folder)))
    assert isinstance(proof_of(settings), Identity)
    assert proof_of(settings) is proof_of(settings)
