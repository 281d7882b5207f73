"""Where kernels are kept: as numba has it, or else in a folder of this process."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.archives import OPTIONS, SETTINGS, Heard, write_slides
from wsi_engine import kernel_cache, run_archive
from wsi_engine.archive.events import Event
from wsi_engine.cli.archive import ArchiveDisplay
from wsi_engine.errors import SlideError
from wsi_engine.kernel_cache import COMPILING, VARIABLE, provide_kernel_cache


@pytest.fixture(autouse=True)
def no_folder_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)


def read_only(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    def access(path, mode):
        return not any(Path(path).is_relative_to(folder) for folder in folders)

    monkeypatch.setattr(kernel_cache.os, "access", access)


def test_without_a_place_to_write_it_is_a_folder_of_this_process_and_said_once(
    monkeypatch, caplog, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / ".cache"))
    monkeypatch.setattr(kernel_cache.tempfile, "mkdtemp", lambda prefix: str(tmp_path / prefix))
    read_only(monkeypatch, Path(kernel_cache.__file__).parent, tmp_path)
    with caplog.at_level(logging.WARNING):
        provide_kernel_cache()
        provide_kernel_cache()
    assert os.environ[VARIABLE].startswith(str(tmp_path / "wsi_engine-kernels-"))
    (record,) = caplog.records
    assert "set NUMBA_CACHE_DIR to a folder that is kept" in record.getMessage()


@pytest.mark.parametrize("writable", ["installation", "home"])
def test_where_numba_finds_a_place_nothing_is_changed(monkeypatch, caplog, tmp_path, writable):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    installation = Path(kernel_cache.__file__).parent
    read_only(monkeypatch, tmp_path if writable == "installation" else installation)
    provide_kernel_cache()
    assert VARIABLE not in os.environ
    assert not caplog.records


def test_a_folder_that_was_given_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    read_only(monkeypatch, Path("/"))
    provide_kernel_cache()
    assert os.environ[VARIABLE] == str(tmp_path)


def test_the_first_run_says_that_it_compiles_and_later_ones_do_not(tmp_path: Path):
    slides = write_slides(tmp_path / "slides", 3)

    def said(*words: str | Path) -> list[str]:
        command = [sys.executable, "-m", "wsi_engine", "run", *words, "-o", tmp_path / "out"]
        environment = os.environ | {VARIABLE: str(tmp_path / "kernels")}
        done = subprocess.run(
            [*command, *OPTIONS], env=environment, capture_output=True, text=True, check=True
        )
        return [line for line in done.stderr.splitlines() if "compiling" in line]

    assert said(slides[0]) == [COMPILING]
    assert said(slides[1]) == []
    assert said(tmp_path / "slides") == []


def test_what_several_workers_say_is_shown_once(capsys):
    with ArchiveDisplay() as display:
        for worker in ("worker 1", "worker 2"):
            display(Event("slide_note", "a", worker, {"text": COMPILING}))
    assert capsys.readouterr().err == f"{COMPILING}\n"


def test_a_worker_tells_the_notes_of_its_slide(monkeypatch, tmp_path: Path):
    def run_slide(*arguments: object, **options: object) -> None:
        logging.getLogger("wsi_engine.kernel_cache").info("a note")
        logging.getLogger("wsi_engine.kernel_cache").debug("what nobody asked for")
        raise SlideError("that is all")

    monkeypatch.setattr("wsi_engine.engine.run.run", run_slide)
    heard = Heard()
    run_archive(write_slides(tmp_path / "slides", 1), tmp_path / "out", listen=heard, **SETTINGS)
    assert [event.facts["text"] for event in heard.of("slide_note")] == ["a note"]
    assert not heard.of("slide_warning")
