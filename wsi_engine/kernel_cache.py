"""Compiled kernels: a place for them where numba finds none, and word when one is compiled."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

VARIABLE = "NUMBA_CACHE_DIR"

COMPILING = "compiling what decodes and measures, once after the installation: some 15 s"


def provide_kernel_cache() -> None:
    """Let kernels be compiled where neither the installation nor the home can be written to.

    numba raises on import of a kernel there. The folder is this process's own, as what numba
    loads from a folder of others could be anything; processes that it starts share it.
    """
    if VARIABLE in os.environ or any(map(_is_writable, (_installation(), _user_cache()))):
        return
    try:
        folder = tempfile.mkdtemp(prefix="wsi_engine-kernels-")
    except OSError:
        return  # numba says what is wrong
    os.environ[VARIABLE] = folder
    atexit.register(_remove, folder, os.getpid())
    log.warning(
        "neither the installation nor the home can be written to, so kernels are compiled for "
        "each run, some 15 s: set %s to a folder that is kept",
        VARIABLE,
    )


def keep_numba_plain() -> None:
    """Keep numba from colouring messages where colorama is installed; call it before numba comes.

    Among them are those of errors that it handles itself while it compiles, and colorama then
    resets the terminal at the end, which is not what ``--quiet`` says.
    """
    os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")


@cache
def tell_when_compiling() -> None:
    """From now on, log it when this process compiles its first kernel that is not kept yet."""
    from numba.core import event

    class Teller(event.Listener):  # type: ignore[misc]
        is_silent = False

        def on_start(self, compiled: object) -> None:
            del compiled
            if not self.is_silent:
                self.is_silent = True
                log.info("%s", COMPILING)

        def on_end(self, compiled: object) -> None:
            del compiled

    # A kernel that numba finds compiled is no such event.
    event.register("numba:compile", Teller())


def _installation() -> Path:
    return Path(__file__).parent


def _user_cache() -> Path:
    # Not Path.expanduser, which raises where a container's user has no home.
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111


def _is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which may have to be made itself."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def _remove(folder: str, process: int) -> None:
    if os.getpid() == process:  # not at the end of a fork
        shutil.rmtree(folder, ignore_errors=True)
