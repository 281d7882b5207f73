"""What measuring costs: by group, in time of a run, in bytes.

    python benchmarks/measure.py SLIDE [--repeat 5]

The groups are timed on the nuclei of the slide's busiest tile, in processor time of one thread.
Runs with the default groups and with none take turns, each a process of its own, so that whatever
else the machine does meets both alike; medians are printed. Where it does much else, processor
time (of the whole process, with its start) says more than time.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rich.console import Console
from rich.table import Table

from wsi_engine.config import RunSettings
from wsi_engine.nuclei.measure.groups import GROUPS, measurer_of
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.results.nucleus_table import read_nuclei
from wsi_engine.slide.frames import ModelBox
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.stain_vectors import H_AND_E
from wsi_engine.slide.whole_pixels import make_measured_grid

TILE_PX = 1248
CASES = {
    "nothing": "measure: []",
    "default": "{}",
    "default, all in GeoJSON": "geojson_measurements: all",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as scratch:
        results = run_in_turns(options.slide, Path(scratch), options.repeat)
        nuclei = read_nuclei(Path(scratch) / "nothing" / options.slide.stem / "nuclei.parquet")
        console.print(groups_table(options.slide, nuclei.polygons, options.repeat))
    console.print(runs_table(results))


def groups_table(slide: Path, polygons: Polygons, repeat: int) -> Table:
    with open_slide(slide) as opened:
        reader = GridReader(opened, make_measured_grid(opened.info))
        centres = reader.grid.from_qupath(shapely.get_coordinates(shapely.centroid(polygons)))
        places, counts = np.unique(centres // TILE_PX, axis=0, return_counts=True)
        column, row = places[counts.argmax()].astype(int) * TILE_PX
        window = ModelBox(int(column), int(row), TILE_PX, TILE_PX)
        rgb = reader.read(window)
    chosen = polygons[window.holds(centres)]
    table = Table("group", "columns", f"µs per nucleus ({len(chosen)} of them)")
    default = RunSettings().measure
    for groups in (*[(group,) for group in GROUPS if group != "context"], default):
        measurer = measurer_of(groups, H_AND_E)
        times = []
        for _ in range(repeat + 1):
            start = time.thread_time()
            measurer.measure(chosen, np.ones(len(chosen), bool), rgb, window, reader.grid)
            times.append(time.thread_time() - start)
        spent = statistics.median(times[1:]) / len(chosen) * 1e6
        name = "all by default" if groups == default else groups[0]
        table.add_row(name, str(len(measurer.columns)), f"{spent:.1f}")
    return table


def run_in_turns(slide: Path, scratch: Path, repeat: int) -> dict[str, list[dict[str, Any]]]:
    results: dict[str, list[dict[str, Any]]] = {case: [] for case in CASES}
    for _ in range(repeat):
        for case, text in CASES.items():
            config = scratch / f"{case}.yaml"
            config.write_text(text, encoding="utf-8")
            command = [sys.executable, "-m", "wsi_engine", "run", str(slide)]
            command += ["-o", str(scratch / case), "--config", str(config), "--force"]
            command += ["--no-regions", "--no-report"]
            before = processor_seconds()
            subprocess.run(command, check=True, capture_output=True)
            spent = processor_seconds() - before
            folder = scratch / case / slide.stem
            record = json.loads((folder / "run.json").read_text("utf-8"))
            record["cpu_s"] = spent
            record["bytes"] = {file.name: file.stat().st_size for file in folder.iterdir()}
            results[case].append(record)
    return results


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def runs_table(results: dict[str, list[dict[str, Any]]]) -> Table:
    table = Table(
        "measured",
        "s",
        "against none",
        "CPU s",
        "against none",
        "RSS MB",
        "GeoJSON kB",
        "Parquet kB",
    )
    none = results["nothing"]
    none_seconds = statistics.median(r["tiles"]["seconds"] for r in none)
    none_cpu = statistics.median(r["cpu_s"] for r in none)
    for case, records in results.items():
        seconds = statistics.median(r["tiles"]["seconds"] for r in records)
        cpu = statistics.median(r["cpu_s"] for r in records)
        table.add_row(
            case,
            f"{seconds:.2f}",
            f"{seconds / none_seconds - 1:+.1%}",
            f"{cpu:.2f}",
            f"{cpu / none_cpu - 1:+.1%}",
            f"{statistics.median(r['peak_rss_mb'] for r in records):,.0f}",
            f"{records[0]['bytes']['nuclei.geojson.gz'] / 1e3:,.0f}",
            f"{records[0]['bytes']['nuclei.parquet'] / 1e3:,.0f}",
        )
    return table


if __name__ == "__main__":
    main()
