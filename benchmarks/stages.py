"""How fast a slide goes through, and where the time goes.

    python benchmarks/stages.py [SLIDE ...] [--repeat 3] [--tile-size 1024]

Without a slide a phantom of 8192 x 8192 px at 0.25 µm is made. Each run is a process of its own,
so that peak memory and warm-up are those of the command line; medians are printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from slides import drawn_tissue, write_repeated

MODEL_STAGES = ("infer", "decode")
STREAM_STAGES = ("read", "infer", "decode", "store", "seams", "measure", "write")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slides", nargs="*", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tile-size", type=int, default=1024)
    parser.add_argument("--model", default="watershed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        slides = options.slides or [
            write_repeated(Path(scratch) / "phantom.tif", drawn_tissue(0.25), 8, 0.25)
        ]
        for slide in slides:
            records = [
                run_once(slide, Path(scratch), options.tile_size, options.model)
                for _ in range(options.repeat)
            ]
            print_tables(slide, records)


def run_once(slide: Path, scratch: Path, tile_size: int, model: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "wsi_engine", "run", str(slide), "-o", str(scratch), "--force"]
    command += ["--tile-size", str(tile_size), "--model", model]
    subprocess.run(command, check=True, capture_output=True)
    record: dict[str, Any] = json.loads((scratch / slide.stem / "run.json").read_text("utf-8"))
    return record


def print_tables(slide: Path, records: list[dict[str, Any]]) -> None:
    def median(*keys: str) -> float:
        values = []
        for record in records:
            value: Any = record
            for key in keys:
                value = value.get(key, {}) if key not in value else value[key]
            values.append(float(value or 0))
        return statistics.median(values)

    seconds, area = median("tiles", "seconds"), median("nuclei", "area_mm2")
    overview = Table("slide", "Mpx", "s", "Mpx/s", "mm²/s", "nuclei", "nuclei/s", "busy", "RSS MB")
    overview.add_row(
        slide.name,
        f"{median('tiles', 'megapixels'):.1f}",
        f"{seconds:.1f}",
        f"{median('tiles', 'megapixels') / seconds:.2f}",
        f"{area / seconds:.3f}",
        f"{median('nuclei', 'count'):,.0f}",
        f"{median('nuclei', 'count') / seconds:,.0f}",
        f"{median('tiles', 'model_busy'):.0%}",
        f"{median('peak_rss_mb'):,.0f}",
    )
    cpu = {stage: median("stages", stage, "cpu_s") for stage in STREAM_STAGES}
    total = sum(cpu.values())
    model = sum(cpu[stage] for stage in MODEL_STAGES)
    shares = Table("stage", "CPU s", "share")
    for stage, spent in cpu.items():
        shares.add_row(stage, f"{spent:.2f}", f"{spent / total:.1%}")
    shares.add_section()
    shares.add_row("model (infer + decode)", f"{model:.2f}", f"{model / total:.1%}")
    shares.add_row("all others", f"{total - model:.2f}", f"{1 - model / total:.1%}")
    for stage in ("tissue", "calibration"):
        shares.add_row(f"before: {stage}", f"{median('stages', stage, 'cpu_s'):.2f}", "")
    console = Console(width=110)
    console.print(overview)
    console.print(shares)


if __name__ == "__main__":
    main()
