"""The command line: parses, calls the public interface, prints.

A command imports what it needs when it is called: ``--help`` answers at once, and only what
computes with a network waits for torch.
"""

from wsi_engine.cli.app import main
from wsi_engine.cli.exit_codes import ExitCode

__all__ = ["ExitCode", "main"]
