"""What a view costs: until it is served, per tile, and frames per second in a browser.

    python benchmarks/view.py OUT/<slide> [OUT/<another> ...] [--copies 8] [--no-browser]

With copies the nuclei of each slide lie so many times side by side and below each other, without
the slide. The browser is a chromium without a window and without a GPU, so that the frames are
what the processor can do; it and the server are on the same machine. Frames are counted while the
slide moves for some seconds: all of it zoomed in and out, a tenth of its width panned, and from
near, where nuclei are outlined, around one of them. Processor time is that of all processes of the
browser, by frame, and says what a frame costs where the machine does other things, too.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import psutil
from export import multiplied, title
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.browser import Tab, find_chromium, open_tab  # noqa: E402
from wsi_engine.view.looking import served  # noqa: E402

TILES_OF_A_KIND = 60
SIZE = (1440, 900)
SECONDS = 3

SHOWN = "globalThis.wsiView?.overlay.drawn.nuclei > 0"
COMPLETE = (
    "globalThis.wsiView && wsiView.shading.known === wsiView.nuclei.count"
    " && wsiView.overlay.outlines.counts && wsiView.viewer.world.getItemAt(0)?.getFullyLoaded()"
)

# What a page is asked: to move as a hand would move it, and to count its frames.
MOVE = """new Promise((done) => {
  const { viewer, overlay, view } = wsiView;
  const { viewport } = viewer;
  const { Point } = OpenSeadragon;
  const zoom = viewport.getHomeZoom() / %(share)s;
  const { x, y } = wsiView.nuclei;
  const middle = %(zooms)s
    ? new Point(0.5, 0.5 * view.height / view.width)
    : new Point(x[0] / view.width, y[0] / view.width);
  viewport.zoomTo(zoom, null, true);
  viewport.panTo(middle, true);
  const began = performance.now();
  const first = overlay.drawn.frames;
  const costs = [];
  let least = Infinity;
  const step = () => {
    const t = (performance.now() - began) / 1000;
    costs.push(overlay.drawn.ms);
    least = Math.min(least, overlay.drawn.share);
    if (t > %(seconds)s) {
      const sorted = costs.sort((a, b) => a - b);
      const { mode, nuclei, frames } = overlay.drawn;
      done({ fps: (frames - first) / t, frames: frames - first, mode, nuclei, least,
        draw: sorted[sorted.length >> 1], worst: sorted[Math.floor(sorted.length * 0.95)] });
      return;
    }
    if (%(zooms)s) viewport.zoomTo(zoom * (1 + 0.4 * Math.sin(2 * t) ** 2));
    else {
      const way = new Point(Math.sin(1.5 * t), Math.cos(1.1 * t));
      viewport.panTo(middle.plus(way.times(0.3 / zoom)));
    }
    requestAnimationFrame(step);
  };
  step();
})"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--copies", type=int, default=1, help="along each side of the slide")
    parser.add_argument("--browser", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    for number, result in enumerate(options.results):
        with tempfile.TemporaryDirectory() as scratch:
            folder = result
            if options.copies > 1:
                folder = multiplied(result, options.copies, Path(scratch) / f"copies_{number}")
                without_slide(folder)
            measure(folder, Path(scratch), options.browser)


def without_slide(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text("utf-8"))
    record["slide_path"] = "gone"
    (folder / "run.json").write_text(json.dumps(record), "utf-8")


def measure(folder: Path, scratch: Path, browser: bool) -> None:
    console = Console(width=110)
    began = time.perf_counter()
    with served(folder) as server:
        console.print(f"\n[bold]{title(folder)}[/]")
        console.print(f"order and index: {time.perf_counter() - began:.2f} s", highlight=False)
        table = Table("file", "files", "mean kB", "ms each", "MB in all, about")
        for name, files, kb, ms in costs_of_files(server.content):
            table.add_row(name, f"{files:,}", f"{kb:,.1f}", f"{ms:.1f}", f"{kb * files / 1e3:,.1f}")
        console.print(table)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        console.print(f"peak memory of the server: {peak:,.0f} MiB", highlight=False)
        if not browser:
            return
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with open_tab(find_chromium(), scratch) as tab:
            tab.size(*SIZE)
            look(tab, server.address, console)
        server.shutdown()


def costs_of_files(content) -> list[tuple[str, int, float, float]]:
    """Return name, number, mean kB and ms of each kind of file, from a sample of them."""
    kinds = defaultdict(list)
    for name in content.names():
        if name.startswith("data/"):
            kinds[name.split("/")[1]].append(name)
    rows = []
    for kind, names in kinds.items():
        some = names[:: max(1, len(names) // TILES_OF_A_KIND)]
        began = time.perf_counter()
        sizes = [len(content.get(name)) for name in some]
        seconds = time.perf_counter() - began
        rows.append((kind, len(names), np.mean(sizes) / 1e3, seconds / len(some) * 1e3))
    return rows


def processor_s() -> float:
    """Return the processor time of the browser, all of its processes."""
    children = psutil.Process().children(recursive=True)
    times = [child.cpu_times() for child in children if child.is_running()]
    return sum(each.user + each.system for each in times)


def look(tab: Tab, address: str, console: Console) -> None:
    began = time.perf_counter()
    tab.go(address)
    tab.wait(SHOWN)
    shown = time.perf_counter() - began
    tab.wait(COMPLETE)
    complete = time.perf_counter() - began
    console.print(
        f"first nuclei on screen: {shown:.2f} s; all nuclei and the slide: {complete:.2f} s",
        highlight=False,
    )
    table = Table(
        "motion", "drawn as", "nuclei", "least drawn", "frames/s", "ms to draw", "95 %", "CPU ms"
    )
    near = tab.ask("400 / wsiView.view.mpp.x / wsiView.view.width")  # 400 µm across
    for motion, share, zooms in (
        ("whole slide, zoomed", 1.0, "true"),
        ("a tenth, panned", 0.1, "false"),
        ("near, panned", near, "false"),
    ):
        values = {"share": share, "zooms": zooms, "seconds": SECONDS}
        tab.ask(MOVE % values)  # once for the tiles to come
        before = processor_s()
        found = tab.ask(MOVE % values)
        cpu = (processor_s() - before) / max(found["frames"], 1) * 1e3
        table.add_row(
            motion, found["mode"], f"{found['nuclei']:,}", f"{found['least']:.0%}",
            *(f"{found[key]:.0f}" for key in ("fps", "draw", "worst")), f"{cpu:.0f}",
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
