"""`make image`: builds the image, writes its bill of materials, tells what weighs what.

    build/image/sbom.cdx.json    what is in it (CycloneDX 1.6), as it lies in the image too
    build/image/weights.txt      what weighs what
    build/image/image.tar        with --archive: the image itself, for `docker load` or `ctr images import`

Ends with 1 and one sentence when the image can't be made, with 2 when what is asked for is wrong.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from tools.image import archive, engines, weights

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "image"
SBOM = "opt/penstock/sbom.cdx.json"


def version() -> str:
    text = (ROOT / "penstock" / "__init__.py").read_text()
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.M)
    assert found, "penstock/__init__.py tells no version"
    return found[1]


def pinned_base() -> str:
    """The base that the Dockerfile names."""
    found = re.search(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert found, "the Dockerfile names no base"
    return found[1]


def base_digest(engine: engines.Engine, base: str) -> str:
    """The digest of the base: by its name, else as it lies in this machine's store. Raises EngineFailed."""
    _, at, digest = base.partition("@")
    if at:
        if re.fullmatch(r"sha256:[0-9a-f]{64}", digest) is None:
            raise engines.EngineFailed(f"{base}: what stands after @ must be sha256: and 64 hexadecimal digits")
        return digest
    if found := engine.digest(base):
        return found
    raise engines.EngineFailed(
        f"the base {base} is neither pinned nor on this machine: give it as NAME@sha256:…, or pull it first"
    )


def provenance() -> dict[str, str]:
    """What the labels say of where the image comes from; "unknown" for what can't be told."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    created = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    revision = _git("rev-parse", "HEAD") or "unknown"
    if revision != "unknown" and _git("status", "--porcelain"):
        revision += "-changed"
    return {
        "VERSION": version(),
        "REVISION": revision,
        "SOURCE": public_url(_git("config", "--get", "remote.origin.url")) or "unknown",
        "CREATED": created.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def public_url(remote: str) -> str:
    """Where others find the project, without whoever logs in there; empty for a folder of this machine."""
    if found := re.fullmatch(r"(?:[^@/]+@)([^:/]+):(.+?)(?:\.git)?/?", remote):
        return f"https://{found[1]}/{found[2]}"
    parts = urlsplit(remote)
    if parts.scheme not in ("https", "http", "ssh", "git") or not parts.hostname:
        return ""
    return f"https://{parts.hostname}{parts.path.rstrip('/').removesuffix('.git')}"


def _git(*arguments: str) -> str:
    try:
        told = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return told.stdout.strip() if told.returncode == 0 else ""


def describe(path: Path, out: Path) -> list[str]:
    """Writes the bill of materials and the weights of a saved image; the lines of the table."""
    image = archive.opened(path)
    out.mkdir(parents=True, exist_ok=True)
    (out / "sbom.cdx.json").write_bytes(image.read(SBOM)[SBOM])
    lines = weights.table(image, image.layers())
    (out / "weights.txt").write_text("\n".join(lines) + "\n")
    return lines


def make(told: argparse.Namespace) -> None:
    """Raises EngineFailed."""
    engine = engines.named(told.engine) if told.engine else engines.found()
    tag = told.tag or f"penstock:{version()}"
    base = told.base or pinned_base()
    arguments = {"BASE_IMAGE": base, "BASE_DIGEST": base_digest(engine, base), **provenance()}
    began = time.monotonic()
    print(f"image: {engine.name} builds {tag} on {base}", flush=True)
    engine.build(ROOT, tag, arguments=arguments, options=told.build_option)
    OUT.mkdir(parents=True, exist_ok=True)
    saved = OUT / "image.tar"
    try:
        engine.save(tag, saved)
        for line in describe(saved, OUT):
            print(line)
    finally:
        if not told.archive:
            saved.unlink(missing_ok=True)
    print(f"image: {tag} in {time.monotonic() - began:.0f} s; {OUT.relative_to(ROOT)}/sbom.cdx.json, weights.txt")


def main(arguments: list[str]) -> int:
    asked = argparse.ArgumentParser(prog="make image", description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("--engine", choices=engines.NAMES, help="which of them; default: the first that answers")
    asked.add_argument(
        "--base", help="the base image, as NAME@sha256:… or one of this machine's; default: Dockerfile's"
    )
    asked.add_argument("--tag", help="default: penstock:VERSION")
    asked.add_argument("--build-option", action="append", default=[], help="handed to the build, such as --no-cache")
    asked.add_argument("--archive", action="store_true", help="keep build/image/image.tar")
    try:
        make(asked.parse_args(arguments))
    except (engines.EngineFailed, ValueError) as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
