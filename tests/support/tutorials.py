"""Following a tutorial: its files are written, its commands and its Python run, in their order."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCE = re.compile(
    r'^(?P<indent> *)```(?P<kind>\w*)(?: title="(?P<file>[^"]+)")?\n(?P<text>.*?)^(?P=indent)```$',
    re.MULTILINE | re.DOTALL,
)
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """A block of a page: a command, Python, a file, or what the block before it prints.

    Attributes
    ----------
    kind
        The language that it is highlighted as.
    file
        The name above it; a block that has one is written, and not run.
    text
        Its lines without the indentation of the page.
    line
        Where it begins.
    """

    kind: str
    file: str | None
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in their order; it has none without a fence."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(found["kind"], found["file"], textwrap.dedent(found["text"]), line)


def follow(page: Path, folder: Path, environment: Mapping[str, str]) -> list[Block]:
    """Do what a page says in a folder, and return its blocks.

    The Python of a page is one session, as is its shell. ``text`` is what was printed to standard
    output, with ``...`` for what differs from machine to machine.

    Raises
    ------
    AssertionError
        If a command fails, something else is printed, or a block is of no use to a reader.
    """
    session: dict[str, Any] = {"__name__": "__main__"}
    printed, done = "", []
    with contextlib.chdir(folder):
        for block in blocks(page):
            where = f"{page.name}:{block.line}"
            if block.file is not None:
                Path(block.file).parent.mkdir(parents=True, exist_ok=True)
                Path(block.file).write_text(block.text, encoding="utf-8")
            elif block.kind == "bash":
                printed = _run(block.text, environment, where)
            elif block.kind == "python":
                with contextlib.redirect_stdout(io.StringIO()) as captured:
                    exec(compile(block.text, where, "exec", dont_inherit=True), session)
                printed = captured.getvalue()
            elif block.kind == "text":
                same = doctest.OutputChecker().check_output(block.text, printed, SAME)
                assert same, f"{where} prints\n{printed}"
            else:
                raise AssertionError(f"{where} is neither run nor written: {block.kind!r}")
            done.append(block)
    return done


def _run(commands: str, environment: Mapping[str, str], where: str) -> str:
    shell = ["bash", "-euo", "pipefail", "-c", commands]
    done = subprocess.run(shell, env=os.environ | dict(environment), capture_output=True, text=True)
    assert done.returncode == 0, f"{where} ends with {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
