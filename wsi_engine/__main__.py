"""``python -m wsi_engine``."""

from wsi_engine.cli import main

main()
