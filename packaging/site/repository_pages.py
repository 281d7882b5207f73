"""Bring onto the site what its pages link to outside of docs/: notes, figures, model cards, code.

A page of docs/ is read in a checkout, too, where it links to `../CONTRIBUTING.md`; MkDocs knows
docs/ alone. Whatever is linked lies under `repository/` on the site, in the folders that it has
here, and links from there into docs/ lead back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PLACE = PurePosixPath("repository")
NAMED_FROM_THE_SITE = ("CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)\s#]+)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what is linked, and what that links to in turn."""
    waiting = [Path(file.abs_src_path) for file in files.documentation_pages()]
    waiting += [ROOT / name for name in NAMED_FROM_THE_SITE]
    seen = set(waiting)
    for source in waiting:
        if not source.is_relative_to(config.docs_dir):
            address = str(_address(source, Path(config.docs_dir)))
            files.append(File.generated(config, address, abs_src_path=str(source)))
        if source.suffix == ".md":
            new = {there for there in _linked(source) if there not in seen}
            seen |= new
            waiting += sorted(there for there in new if there.is_relative_to(ROOT))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    docs = Path(config.docs_dir)
    source = Path(page.file.abs_src_path)
    here = _address(source, docs).parent

    def on_the_site(link: re.Match[str]) -> str:
        there = (source.parent / link[1]).resolve()
        return os.path.relpath(_address(there, docs), here) if there.is_file() else link[1]

    return LINK.sub(on_the_site, markdown)


def _linked(page: Path) -> Iterator[Path]:
    for link in LINK.finditer(page.read_text(encoding="utf-8")):
        there = (page.parent / link[1]).resolve()
        if there.is_file():
            yield there


def _address(source: Path, docs: Path) -> PurePosixPath:
    """Return the path of a file of the repository among the sources of the site."""
    if source.is_relative_to(docs):
        return PurePosixPath(source.relative_to(docs).as_posix())
    return PLACE / source.relative_to(ROOT).as_posix()
