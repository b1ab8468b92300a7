"""What the image is made of, as CycloneDX 1.6: `python3 -I sbom.py --installed REPORT --out FILE VENV...`.

Runs inside of the image's build, where all of it can be read: the metadata of what is installed in the environments,
pip's report (the hash of each file that it installed), dpkg's list of the base. The same image gives the same bytes:
no time, and a serial number made of the content. `problems` says what the schema would refuse.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

__all__ = ["Bom", "document", "hashes_of", "problems"]

Bom = dict[str, Any]
"""A JSON object."""

OURS = "penstock"
TYPES = frozenset({"application", "library", "platform", "operating-system"})
"""Those of the schema's kinds of component that are used here."""
_SERIAL = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def document(environments: Sequence[Path], *, hashes: Mapping[str, str], root: Path = Path("/")) -> Bom:
    """The whole document. `hashes`: package -> SHA-256 of the file that was installed; `root`: of the base system."""
    packages = {_normal(one.name): one for one in _installed(environments)}
    ours = packages.pop(OURS, None)
    if ours is None:
        raise SystemExit(f"sbom: {OURS} itself is not installed in {', '.join(map(str, environments))}")
    base = list(_base(root))
    components = [_package(one, hashes.get(name)) for name, one in sorted(packages.items())] + base
    subject = {**_package(ours, None), "type": "application"}
    body: Bom = {
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "penstock tools.image", "version": ours.version}]},
            "component": subject,
        },
        "components": components,
        "dependencies": [_needs(one, packages) for one in (ours, *(packages[name] for name in sorted(packages)))],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1, **body}


def hashes_of(report: Mapping[str, Any]) -> dict[str, str]:
    """Package -> SHA-256 of the file that pip installed, by the report of `pip install --report`."""
    return {
        _normal(one["metadata"]["name"]): one["download_info"]["archive_info"]["hashes"]["sha256"]
        for one in report["install"]
    }


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(environments: Sequence[Path]) -> Iterator[Distribution]:
    for environment in environments:
        yield from distributions(path=[str(site) for site in environment.glob("lib/python3*/site-packages")])


def _package(one: Distribution, sha256: str | None) -> Bom:
    name = _normal(one.name)
    purl = f"pkg:pypi/{quote(name)}@{quote(one.version, safe='')}"
    found: Bom = {"type": "library", "bom-ref": purl, "name": name, "version": one.version, "purl": purl}
    if summary := _field(one, "Summary"):
        found["description"] = summary
    if licenses := _licenses(one):
        found["licenses"] = licenses
    if sha256 is not None:
        found["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    return found


def _field(one: Distribution, name: str) -> str:
    """The first of that name in its metadata; empty without one."""
    return next(iter(one.metadata.get_all(name) or []), "").strip()


def _licenses(one: Distribution) -> list[Bom]:
    """As its metadata says: an SPDX expression, else the name in one line, else the classifiers."""
    if expression := _field(one, "License-Expression"):
        return [{"expression": expression}]
    text = _field(one, "License")
    if text and "\n" not in text and len(text) <= 100 and text.upper() != "UNKNOWN":
        return [{"license": {"name": text}}]
    classifiers = [
        line.rpartition("::")[2].strip()
        for line in one.metadata.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    return [{"license": {"name": name}} for name in classifiers]


def _needs(one: Distribution, packages: Mapping[str, Distribution]) -> Bom:
    """What it requires of what is here, whatever the extras and markers say of other machines."""
    names = {_normal(re.split(r"[\[<>=!~; (]", text, maxsplit=1)[0]) for text in one.requires or []}
    wanted = sorted(_package(packages[name], None)["bom-ref"] for name in names & packages.keys())
    return {"ref": _package(one, None)["bom-ref"], "dependsOn": wanted}


def _base(root: Path) -> Iterator[Bom]:
    """The operating system, its packages by dpkg, and the interpreter where it is none of them."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', (root / "etc/os-release").read_text(), re.M))
    system, version = release.get("ID", "linux"), release.get("VERSION_ID", "")
    yield {"type": "operating-system", "bom-ref": f"os:{system}", "name": system, "version": version}
    names = set()
    for stanza in (root / "var/lib/dpkg/status").read_text().split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", stanza, re.M))
        if fields.get("Status", "").endswith(" installed"):
            names.add(fields["Package"])
            purl = (
                f"pkg:deb/{system}/{quote(fields['Package'])}@{quote(fields['Version'], safe='')}"
                f"?arch={fields['Architecture']}&distro={system}-{version}"
            )
            plain = {"type": "library", "name": fields["Package"], "version": fields["Version"]}
            yield {**plain, "bom-ref": purl, "purl": purl}
    if not any(name.startswith("libpython3") for name in names):
        plain = {"type": "platform", "name": "python", "version": platform.python_version()}
        purl = f"pkg:generic/python@{platform.python_version()}"
        yield {**plain, "bom-ref": purl, "purl": purl}


def problems(bom: Mapping[str, Any]) -> list[str]:
    """What CycloneDX 1.6 would refuse of what is written here, each with its place."""
    found = []
    if bom.get("bomFormat") != "CycloneDX" or bom.get("specVersion") != "1.6":
        found.append("bomFormat, specVersion: must be CycloneDX 1.6")
    if not _SERIAL.fullmatch(str(bom.get("serialNumber"))):
        found.append("serialNumber: must be urn:uuid:…")
    if not isinstance(bom.get("version"), int) or bom["version"] < 1:
        found.append("version: must be 1 or more")
    subject = bom.get("metadata", {}).get("component", {})
    refs: set[str] = set()
    for place, one in [("metadata.component", subject), *((f"components[{n}]", c) for n, c in _numbered(bom))]:
        found += [f"{place}.{problem}" for problem in _component_problems(one)]
        if one.get("bom-ref") in refs:
            found.append(f"{place}.bom-ref: {one['bom-ref']} is there twice")
        refs.add(str(one.get("bom-ref")))
    for one in bom.get("dependencies", []):
        unknown = {one.get("ref"), *one.get("dependsOn", [])} - refs
        found += [f"dependencies: {ref} is no component" for ref in sorted(map(str, unknown))]
        if len(set(one.get("dependsOn", []))) != len(one.get("dependsOn", [])):
            found.append(f"dependencies: {one.get('ref')} names one twice")
    return found


def _numbered(bom: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    return enumerate(bom.get("components", []))


def _component_problems(one: Mapping[str, Any]) -> Iterator[str]:
    if one.get("type") not in TYPES:
        yield f"type: {one.get('type')!r} is none"
    for key in ("name", "version", "bom-ref"):
        if not isinstance(one.get(key), str) or not one[key]:
            yield f"{key}: is missing"
    for number, item in enumerate(one.get("hashes", [])):
        if item.get("alg") != "SHA-256" or not _SHA256.fullmatch(str(item.get("content"))):
            yield f"hashes[{number}]: must be 64 hexadecimal digits of SHA-256"
    licenses = one.get("licenses", [])
    if any("expression" in item for item in licenses) and len(licenses) != 1:
        yield "licenses: an expression must be the only one"
    for number, item in enumerate(licenses):
        if not item.get("expression") and not item.get("license", {}).get("name"):
            yield f"licenses[{number}]: neither an expression nor a name"


def main() -> int:
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("environments", type=Path, nargs="+")
    asked.add_argument("--installed", type=Path, required=True)
    asked.add_argument("--out", type=Path, required=True)
    told = asked.parse_args()
    bom = document(told.environments, hashes=hashes_of(json.loads(told.installed.read_text())))
    wrong = problems(bom)
    for problem in wrong:
        print(f"sbom: {problem}", file=sys.stderr)
    told.out.write_text(json.dumps(bom, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"sbom: {len(bom['components'])} components")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
