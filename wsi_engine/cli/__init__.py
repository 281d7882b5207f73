"""The command line: parses, calls the public interface, prints.

A command imports what it needs when it is called: ``--help`` answers at once, and only what
computes with a network waits for torch.
"""

from wsi_engine.cli.app import INTERRUPTED, main
from wsi_engine.cli.console import DAMAGED

__all__ = ["DAMAGED", "INTERRUPTED", "main"]
