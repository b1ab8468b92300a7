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
from dataclasses import dataclass
from importlib.metadata import PackageMetadata, distributions
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


@dataclass(frozen=True, kw_only=True)
class Package:
    """What the metadata of one installed distribution says, read once."""

    name: str
    version: str
    summary: str
    licenses: tuple[Bom, ...]
    needs: frozenset[str]
    """Of what it requires, whatever the extras and markers say of other machines."""

    @property
    def ref(self) -> str:
        return f"pkg:pypi/{quote(self.name)}@{quote(self.version, safe='')}"


def document(environments: Sequence[Path], *, hashes: Mapping[str, str], root: Path = Path("/")) -> Bom:
    """The whole document. `hashes`: package -> SHA-256 of the file that was installed; `root`: of the base system."""
    packages = {one.name: one for one in _installed(environments)}
    ours = packages.pop(OURS, None)
    if ours is None:
        raise SystemExit(f"sbom: {OURS} itself is not installed in {', '.join(map(str, environments))}")
    ordered = [packages[name] for name in sorted(packages)]
    needed = [
        {"ref": one.ref, "dependsOn": sorted(packages[name].ref for name in one.needs & packages.keys())}
        for one in (ours, *ordered)
    ]
    body: Bom = {
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "penstock tools.image", "version": ours.version}]},
            "component": {**_component(ours, None), "type": "application"},
        },
        "components": [_component(one, hashes.get(one.name)) for one in ordered] + list(_base(root)),
        "dependencies": needed,
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


def _installed(environments: Sequence[Path]) -> Iterator[Package]:
    for environment in environments:
        for one in distributions(path=[str(site) for site in environment.glob("lib/python3*/site-packages")]):
            told = one.metadata
            yield Package(
                name=_normal(_field(told, "Name")),
                version=_field(told, "Version"),
                summary=_field(told, "Summary"),
                licenses=tuple(_licenses(told)),
                needs=frozenset(
                    _normal(re.split(r"[\[<>=!~; (]", text, maxsplit=1)[0])
                    for text in told.get_all("Requires-Dist") or []
                ),
            )


def _component(one: Package, sha256: str | None) -> Bom:
    found: Bom = {"type": "library", "bom-ref": one.ref, "name": one.name, "version": one.version, "purl": one.ref}
    if one.summary:
        found["description"] = one.summary
    if one.licenses:
        found["licenses"] = list(one.licenses)
    if sha256 is not None:
        found["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    return found


def _field(told: PackageMetadata, name: str) -> str:
    """The first of that name; empty without one."""
    return next(iter(told.get_all(name) or []), "").strip()


def _licenses(told: PackageMetadata) -> Iterator[Bom]:
    """As it says: an SPDX expression, else the name in one line, else the classifiers."""
    text = _field(told, "License")
    if expression := _field(told, "License-Expression"):
        yield {"expression": expression}
    elif text and "\n" not in text and len(text) <= 100 and text.upper() != "UNKNOWN":
        yield {"license": {"name": text}}
    else:
        for line in told.get_all("Classifier") or []:
            if line.startswith("License ::"):
                yield {"license": {"name": line.rpartition("::")[2].strip()}}


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
