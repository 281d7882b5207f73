"""What the pages for users say is there: commands, options, links and files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from wsi_engine.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app).commands
OPTIONS = {
    name: {word for option in command.params for word in (*option.opts, *option.secondary_opts)}
    for name, command in COMMANDS.items()
}
FOLDERS = "benchmarks|configs|docs|qupath_scripts|tests|wsi_engine"


def headings(page: Path) -> set[str]:
    """Return the headings of a page as links name them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {name.lower().replace(" ", "-") for name in found}


pages = pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param(path, path.read_text(encoding="utf-8"), id=path.relative_to(ROOT).as_posix())
        for path in PAGES
    ],
)


@pages
def test_every_command_that_is_shown_exists_with_its_options(path, text):
    for line in re.findall(r"^\s*wsi-engine (.+)$", text, re.MULTILINE):
        command, *words = shlex.split(line, comments=True)
        assert {word for word in words if word.startswith("-")} <= OPTIONS[command], line


@pages
def test_every_option_that_is_named_exists(path, text):
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    inline = [code for code in re.findall(r"`([^`]+)`", prose) if not code.startswith("pip")]
    named = {word for code in inline for word in re.findall(r"(?<!\S)--[a-z][a-z-]*", code)}
    assert named - {"--help"} <= set().union(*OPTIONS.values())


@pages
def test_every_link_leads_somewhere(path, text):
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, heading = target.partition("#")
        there = path.parent / file if file else path
        assert there.exists(), target
        assert not heading or heading in headings(there), target


@pages
def test_every_file_that_is_named_is_there(path, text):
    for name in re.findall(rf"`((?:{FOLDERS})/[\w./*-]+)`", text):
        assert list(ROOT.glob(name.rstrip("/"))), name


def test_every_room_and_module_that_contributors_are_pointed_to_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:\.py|/))`", text):
        places = (ROOT / "wsi_engine", ROOT, ROOT / "tests")
        assert any((place / name).exists() for place in places), name


def test_descriptions_name_what_they_describe():
    """A docstring or description is a sentence, or a noun phrase: none begins with "Of"."""
    dangling = re.compile(r'^ *(?:r?""")?Of ', re.MULTILINE)
    files = [path for folder in ("wsi_engine", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert not [str(path) for path in files if dangling.search(path.read_text(encoding="utf-8"))]
