"""How commands end, for those who call them from a script."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """All exit codes of the command line; docs/reliability.md says when each comes."""

    DONE = 0
    FAILED = 1
    WRONG_USAGE = 2
    """As click, which reads options and arguments, ends."""
    DAMAGED = 3
    """A run finished, but could not read all of a slide."""
    INTERRUPTED = 130
    TERMINATED = 143
