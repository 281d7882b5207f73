"""The site: builds without a warning, loads nothing from elsewhere, has no link to nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import wsi_engine
from wsi_engine.config import RunSettings

pytest.importorskip("mkdocs")

ROOT = Path(__file__).parents[1]
PICTURES = ("A gland", "Cells in green", "The page of a slide")


class Document(HTMLParser):
    """What a page of the site refers to, and what can be referred to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.alternatives: list[str] = []
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        elif tag == "link" and values.get("rel") != "canonical":
            self.loaded.add(values["href"])
        elif "src" in values:
            self.loaded.add(values["src"])
        if tag == "img":
            self.alternatives.append(values["alt"])


def build(site: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("site")
    built = build(folder)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def documents(site: Path) -> dict[Path, Document]:
    return {path.resolve(): Document(path) for path in site.rglob("*.html")}


def place(document: Document, site: Path, target: str) -> Path:
    """Return the file that a link leads to."""
    path = unquote(urlsplit(target).path)
    if not path:
        return document.path.resolve()
    there = (site / path[1:] if path.startswith("/") else document.path.parent / path).resolve()
    return there / "index.html" if there.is_dir() else there


def test_pages_load_nothing_from_elsewhere(documents, site):
    for document in documents.values():
        for target in document.loaded:
            assert not urlsplit(target).netloc, target
            assert place(document, site, target).is_file(), f"{document.path}: {target}"
    for sheet in site.rglob("*.css"):
        outside = re.findall(r"url\(\s*[\"']?(?:https?:)?//[^)]*", sheet.read_text("utf-8"))
        assert outside == []


def test_links_lead_to_pages_and_headings_that_are_there(documents, site):
    for document in documents.values():
        for target in document.links:
            if urlsplit(target).scheme:
                continue
            there = place(document, site, target)
            assert there.is_file(), f"{document.path}: {target}"
            heading = unquote(urlsplit(target).fragment)
            if heading and there in documents and not heading.startswith("__"):
                assert heading in documents[there].anchors, f"{document.path}: {target}"


def test_what_is_linked_outside_of_docs_comes_along(site):
    brought = site / "repository"
    for name in ("CONTRIBUTING", "CHANGELOG", "wsi_engine/models/weights/starconvex"):
        assert (brought / name / "index.html").is_file(), name
    assert (brought / "wsi_engine/models/protocol.py").read_bytes() == (
        ROOT / "wsi_engine/models/protocol.py"
    ).read_bytes()


def test_pictures_are_shown_and_described(documents):
    described = [text for document in documents.values() for text in document.alternatives]
    assert all(described)
    for picture in PICTURES:
        assert any(text.startswith(picture) for text in described), picture


def test_every_public_name_is_on_one_page_of_the_api(documents, site):
    pages = [document for path, document in documents.items() if "api" in path.parts]
    found = Counter(anchor for document in pages for anchor in document.anchors)
    public = {name for name in wsi_engine.__all__ if name != "__version__"}
    assert {name: found[f"wsi_engine.{name}"] for name in public} == dict.fromkeys(public, 1)


def test_every_setting_of_a_run_is_in_the_table(site):
    text = (site / "api" / "settings" / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<tr>\s*<td><code>(\w+)</code></td>", text) == list(RunSettings.model_fields)


def test_no_list_is_taken_for_a_paragraph(documents):
    """A list wants an empty line before it here, which it does not on other sites."""
    for document in documents.values():
        for paragraph in re.findall(r"<p>(.*?)</p>", document.text, re.DOTALL):
            assert not re.search(r"\n(?:- |\d+\. )", paragraph), f"{document.path}: {paragraph}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[There](nowhere.md)", "contains a link 'nowhere.md', but the target is not found"),
        ("[There](index.md#nowhere)", "a link 'index.md#nowhere', but there is no such anchor"),
        ("[There](../pyproject.toml)\n\n::: wsi_engine.nothing", "wsi_engine.nothing"),
    ],
)
def test_a_link_that_leads_nowhere_ends_the_build(tmp_path: Path, text: str, complaint: str):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n{text}\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nnav: [index.md]\n"
        f"hooks: [{ROOT / 'packaging/site/repository_pages.py'}]\n"
    )
    built = build(tmp_path / "site", "--config-file", str(config))
    assert built.returncode != 0
    assert complaint in re.sub(r"\s+", " ", built.stderr)
