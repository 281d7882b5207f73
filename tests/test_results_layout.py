"""The names of the files of a result have one home: whoever needs one asks for it there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsi_engine
from wsi_engine.results import layout

PACKAGE = Path(wsi_engine.__file__).parent

NAMES = {
    *(layout.RECORD, layout.NUCLEI_TABLE, layout.COLUMNS, layout.geojson_name()),
    *(layout.TISSUE_FILE, layout.ROI_FILE, layout.CORRECTIONS, layout.FAILED_FILE),
    *(*layout.SUMMARY_FILES, *layout.COHORT_FILES, layout.REMOVED),
}
WHOLE = {layout.EXPORTS, layout.WORK, layout.TILES, layout.COHORT_WORK}
"""Too short to be looked for within a text."""


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Every text of a module but docstrings, parts of f-strings among them."""
    tree = ast.parse(source)
    documentation = {
        child.value
        for node in ast.walk(tree)
        for child in ast.iter_child_nodes(node)
        if isinstance(child, ast.Expr)
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and node not in documentation:
            yield node.lineno, node.value


def names_in(source: str) -> list[str]:
    return [
        f"{line}: {text}"
        for line, text in texts(source)
        if text in WHOLE or any(name in text for name in NAMES)
    ]


@pytest.mark.parametrize(
    "source",
    ['x = "run.json"', 'x = f"{y}: run.json lists them"', 'f(y / "regions.csv")', 'x = ".work"'],
)
def test_a_name_is_found(source):
    assert names_in(source)


def test_a_docstring_may_name_files():
    assert not names_in('def f():\n    """Write ``run.json``."""\n')


def test_no_file_of_a_result_is_named_outside_of_the_layout():
    home = Path(layout.__file__)
    found = {
        f"{path.relative_to(PACKAGE)}:{where}"
        for path in PACKAGE.rglob("*.py")
        if path != home
        for where in names_in(path.read_text(encoding="utf-8"))
    }
    assert found == set()
