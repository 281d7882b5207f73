"""Where kernels are kept: as numba has it, or else in a folder of this process."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from wsi_engine import kernel_cache
from wsi_engine.kernel_cache import VARIABLE, provide_kernel_cache


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
