"""Names of result folders: they come from names of files, which may be anything."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from pathlib import PurePath, PurePosixPath
from urllib.parse import unquote

MOST_BYTES = 180
"""Longest name in UTF-8. File systems take 255, and temporary files put something around it."""

RESERVED = frozenset(
    {"con", "prn", "aux", "nul"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
)
"""What Windows keeps for devices, whatever the suffix."""

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')


def is_url(path: str) -> bool:
    """Whether a slide is named by URL and not by a path of this machine."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|[a-z0-9]+::", path) is not None


def folder_name(text: str) -> str:
    """Turn any text into the name of a folder on any system; most texts are one already.

    Characters that some system does not take become ``_``. The result is never empty, hidden,
    nor a way out of the folder that it is in. A name that is too long is cut, and ends in a
    digest of all of it.

    Examples
    --------
    >>> folder_name("S12-345 A"), folder_name(".."), folder_name("a/b"), folder_name("con.1")
    ('S12-345 A', '_', 'a_b', '_con.1')
    """
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", text)).rstrip(". ")
    if name.startswith((".", " ")) or name.split(".")[0].casefold() in RESERVED:
        name = f"_{name}"
    if len(name.encode()) > MOST_BYTES:
        ending = f"-{_digest(text)}"
        beginning = name.encode()[: MOST_BYTES - len(ending)].decode(errors="ignore")
        name = beginning + ending
    return name or "_"


def candidates(path: str) -> Iterator[str]:
    """Yield names for the result of a slide, each longer than the one before.

    Its stem; the stem behind the folder that it is in, behind two folders, and so on. The last
    ends in a digest of the path, which no other slide has.

    Examples
    --------
    >>> list(candidates("/archive/p1/a.svs"))[:3]
    ['a', 'p1-a', 'archive-p1-a']
    """
    pure = PurePosixPath(unquote(path.split("://")[-1])) if is_url(path) else PurePath(path)
    folders = [part for part in pure.parts[:-1] if part != pure.anchor]
    name = pure.stem
    yield folder_name(name)
    for folder in reversed(folders):
        name = f"{folder}-{name}"
        yield folder_name(name)
    yield folder_name(f"{pure.stem[:60]}-{_digest(path)}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
