"""The names that documents go by: which are refused, which are the same, which are not documents at all.

Names are never used as paths: they are labels, stored and shown. They are checked all the same, so that an export
that somebody unpacks later can do no harm, and because a hostile name tells of a hostile archive.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass

__all__ = [
    "ARCHIVE_SUFFIXES",
    "MAX_NAME_CHARACTERS",
    "NameProblem",
    "is_ignored",
    "is_nested_archive",
    "looks_packed",
    "mebibytes",
    "normalised",
    "path_problem",
    "suffix_of",
    "text_problem",
    "unique_name",
]

MAX_NAME_CHARACTERS = 1_000

ARCHIVE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("7z", "ar", "arj", "bz2", "cab", "cpio", "ear", "gz", "iso", "jar", "lha", "lz", "lz4", "lzh", "lzma"),
        *("rar", "tar", "taz", "tbz", "tbz2", "tgz", "txz", "tzst", "war", "xz", "z", "zip", "zipx", "zst"),
    )
)

_PACKED_MAGIC = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"Rar!\x1a\x07",
    b"7z\xbc\xaf\x27\x1c",
    b"\x1f\x8b\x08",
    b"\xfd7zXZ\x00",
    b"BZh",
    b"\x28\xb5\x2f\xfd",
)
_PLAIN_SUFFIXES = frozenset({"", ".txt", ".md", ".html", ".htm", ".pdf"})
_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass(frozen=True)
class NameProblem:
    """Why a name is refused: a stable code and the end of a sentence that begins with the name."""

    code: str
    text: str


def text_problem(name: str) -> NameProblem | None:
    """What no name may have, in an archive or beside others."""
    if not name.strip():
        return NameProblem("name_empty", "has no name")
    if "\x00" in name:
        return NameProblem("name_nul", "has a NUL in its name")
    if len(name) > MAX_NAME_CHARACTERS:
        return NameProblem(
            "name_too_long", f"has a name of {len(name):,} characters, at most {MAX_NAME_CHARACTERS:,} are taken"
        )
    if not name.isprintable() and any(unicodedata.category(c) == "Cc" for c in name):
        return NameProblem("name_control", "has control characters in its name")
    return None


def path_problem(name: str) -> NameProblem | None:
    """What a path inside an archive may not be. Backslashes count as separators, since some programs take them so."""
    found = text_problem(name)
    if found is not None:
        return found
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "":
        return NameProblem("name_absolute", "has an absolute path; paths inside an archive are relative")
    if any(_DRIVE.match(part) for part in parts):
        return NameProblem("name_drive", "has a path with a drive letter; paths inside an archive are relative")
    if ".." in parts:
        return NameProblem("name_parent", "has `..` in its path, which leads out of the archive")
    return None


def normalised(name: str) -> str:
    """Equal for names that some file system takes for the same.

    They may differ by separators, `.` steps, Unicode form, letter case and trailing dots.
    """
    path = name.replace("\\", "/")
    if path.isascii():
        folded = path.lower()
    else:
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", path).casefold())
    return "/".join([part.rstrip(". ") or part for part in folded.split("/") if part not in ("", ".")])


def is_ignored(name: str) -> bool:
    """Folders, `__MACOSX` and dotfiles (or what lies in a dot folder): what archivers add by themselves."""
    path = name.replace("\\", "/")
    if path.endswith("/"):
        return True
    if "__MACOSX" not in path and "/." not in path and not path.startswith("."):
        return False  # nearly all names; the rest is looked at part by part
    return any(part == "__MACOSX" or part.startswith(".") for part in path.split("/") if part != ".")


def suffix_of(name: str) -> str:
    """The last extension in lower case, with its dot; empty where there is none."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, suffix = base.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def is_nested_archive(name: str) -> bool:
    return suffix_of(name) in ARCHIVE_SUFFIXES


def looks_packed(name: str, first_bytes: bytes) -> bool:
    """An archive that goes by the name of a plain document.

    (.docx is a zip by right; other formats fail alone, later.)
    """
    return suffix_of(name) in _PLAIN_SUFFIXES and first_bytes.startswith(_PACKED_MAGIC)


def unique_name(name: str, taken: set[str], counters: dict[str, int]) -> str:
    """`a.txt`, then `a (2).txt`, … `taken` and `counters` belong to one upload and are kept up to date here."""
    chosen = name
    if name in taken:
        stem, dot, suffix = name.rpartition(".")
        if not dot or not stem or "/" in suffix:
            stem, suffix, dot = name, "", ""
        number = counters.get(name, 1)
        while chosen in taken:
            number += 1
            chosen = f"{stem} ({number}){dot}{suffix}"
        counters[name] = number
    taken.add(chosen)
    return chosen


def mebibytes(size: int) -> str:
    """A size for people: `12.3 MiB`, rounded up, so that what is past a bound reads so."""
    if size < 1 << 20:
        return f"{size:,} bytes"
    return f"{math.ceil(size / (1 << 20) * 10) / 10:.1f}".removesuffix(".0") + " MiB"
