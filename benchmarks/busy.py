"""How much longer a run takes, from its first tile to its last, than its network alone.

    python benchmarks/busy.py SLIDE [--methods NAME...]

Every method that needs no download runs once in a process of its own, at default settings; the
share of the time in which its network computes is that of the run's record.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from compare import cost_of_process

from wsi_engine.models.registry import available_models


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slide", type=Path)
    parser.add_argument("--methods", nargs="*", help="all that need no download if not given")
    options = parser.parse_args()
    models = available_models()
    methods = options.methods or [name for name, model in models.items() if model.spec.embedded]
    print("| method | tiles | wall s, whole process | wall from first to last tile / network |")
    print("|---|---|---|---|")
    for method in methods:
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "wsi_engine", "run", str(options.slide), "-o", scratch]
            cost = cost_of_process([*command, "--model", method])
            record = Path(scratch) / options.slide.stem / "run.json"
            tiles = json.loads(record.read_text("utf-8"))["tiles"]
        print(
            f"| {method} | {tiles['count']} | {cost.wall_s:.1f} | {1 / tiles['model_busy']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
