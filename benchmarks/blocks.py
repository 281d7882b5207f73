"""What splitting a slide over processes costs, and what it gains here.

    python benchmarks/blocks.py SLIDE [--jobs 2] [--repeat 4] [--model starconvex]

Runs of one process and of several take turns, each pair with as many threads in all, so that
whatever else the machine does meets both alike; medians are printed. Where it does much else,
processor time (of all processes, with their start) says more than time.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from wsi_engine.config import make_settings
from wsi_engine.engine.plan import make_plan
from wsi_engine.engine.tile_flow import compute_tiles
from wsi_engine.engine.workers.devices import place
from wsi_engine.schedule.clock import StageClock
from wsi_engine.slide.opening import open_slide
from wsi_engine.store.parts import pack_tiles, unpack_tiles

RUN = """
import sys, wsi_engine
from wsi_engine.engine.workers.local import local_workers
slide, output, model, jobs = sys.argv[1:]
if jobs == "1":
    wsi_engine.run(slide, output, model=model, device="cpu")
else:
    with local_workers(int(jobs)) as executor:
        wsi_engine.run(
            slide, output, model=model, device="cpu", jobs=int(jobs), executor=executor
        )
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=4)
    parser.add_argument("--model", default="starconvex")
    options = parser.parse_args()
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as scratch:
        records = run_in_turns(options, Path(scratch))
    console.print(runs_table(records))
    console.print(parts_table(options))


def run_in_turns(options: argparse.Namespace, scratch: Path) -> dict[int, list[dict[str, Any]]]:
    records: dict[int, list[dict[str, Any]]] = {1: [], options.jobs: []}
    for _ in range(options.repeat):
        for jobs, done in records.items():
            arguments = [str(options.slide), str(scratch / str(jobs)), options.model, str(jobs)]
            before, started = children_seconds(), time.perf_counter()
            subprocess.run([sys.executable, "-c", RUN, *arguments], check=True)
            record = json.loads((scratch / str(jobs) / options.slide.stem / "run.json").read_text())
            record["seconds"] = time.perf_counter() - started
            record["cpu_s"] = children_seconds() - before
            done.append(record)
    files = [path.name for path in (scratch / "1" / options.slide.stem).iterdir()]
    for name in set(files) - {"run.json"}:
        one, split = (scratch / str(jobs) / options.slide.stem / name for jobs in records)
        assert one.read_bytes() == split.read_bytes(), name
    return records


def runs_table(records: dict[int, list[dict[str, Any]]]) -> Table:
    table = Table("processes", "s, start to end", "CPU s", "CPU of one", "model busy", "RSS MB")
    reference = statistics.median(record["cpu_s"] for record in records[1])
    for jobs, runs in records.items():
        seconds = statistics.median(record["seconds"] for record in runs)
        cpu = statistics.median(record["cpu_s"] for record in runs)
        busy = statistics.median(record["tiles"]["model_busy"] for record in runs)
        memory = statistics.median(
            record["peak_rss_mb"] + sum(worker["peak_rss_mb"] for worker in record["workers"])
            for record in runs
        )
        cells = [f"{seconds:.1f}", f"{cpu:.1f}", f"{cpu / reference:.2f}"]
        table.add_row(str(jobs), *cells, f"{busy:.0%}", f"{memory:,.0f}")
    return table


def parts_table(options: argparse.Namespace) -> Table:
    """Time what each process and each tile cost besides the computing."""
    torch.set_num_threads(1)
    settings = make_settings(None, model=options.model, device="cpu", compile="never")
    device = torch.device("cpu")
    before = children_seconds()
    subprocess.run([sys.executable, "-c", "import wsi_engine.engine.workers.worker"], check=True)
    start = children_seconds() - before
    with open_slide(options.slide) as slide:
        make_plan(slide, settings, device, StageClock())  # compiles what numba compiles
        planning, plan = timed(lambda: make_plan(slide, settings, device, StageClock()))
        models = place(plan, [device], len(plan.tiles), StageClock())
        computed = compute_tiles(plan, models, 1, StageClock(), plan.tiles)
        tiles = [(tile.index, nuclei) for tile, nuclei in computed]
    packing, packed = timed(lambda: pack_tiles(tiles))
    unpacking, _ = timed(lambda: list(unpack_tiles(packed)))
    nuclei = sum(len(found) for _, found in tiles)
    table = Table("what", "")
    table.add_row("start of a process: Python, torch, this package", f"{start:.2f} CPU s")
    table.add_row("its plan of the slide", f"{planning:.2f} CPU s")
    table.add_row(f"pack {nuclei:,} nuclei of {len(tiles)} tiles", f"{packing * 1e3:.0f} CPU ms")
    table.add_row("unpack them", f"{unpacking * 1e3:.0f} CPU ms")
    table.add_row("bytes on the way", f"{len(packed) / 1e6:.1f} MB")
    return table


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
