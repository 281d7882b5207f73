"""How a command ends on a signal: at once, whatever it waits for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from wsi_engine.cli.exit_codes import ExitCode

PATIENCE_S = 4.0
"""Batch systems send SIGKILL five seconds or more after SIGTERM."""


def end_on_sigterm(on_end: Callable[[], None]) -> None:
    """From now on, end with `ExitCode.TERMINATED` on SIGTERM.

    Threads that are busy with a batch get some seconds to end, and then are not waited for:
    what is on disk is as good after that as after a power cut.

    Parameters
    ----------
    on_end
        Function that is called where the command could not end by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # only there can signals be received

    def give_up() -> None:
        on_end()
        os._exit(ExitCode.TERMINATED)

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        impatience = threading.Timer(PATIENCE_S, give_up)
        impatience.daemon = True
        impatience.start()
        raise SystemExit(ExitCode.TERMINATED)

    signal.signal(signal.SIGTERM, end)
