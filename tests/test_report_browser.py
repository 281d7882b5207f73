"""The pages in a real browser: no error, every picture decodes, nothing is cut off, it sorts."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.browser import find_chromium
from tests.support.results import write_result
from wsi_engine.report.cohort import write_cohort_report

# Run within the page, where its own policy forbids scripts: a copy without the policy is probed.
PROBE = """<script>
const wide = [...document.querySelectorAll("main *")].filter(
  (e) => !e.closest(".wide, svg") && e.getBoundingClientRect().right > innerWidth + 1);
const load = (uri) => new Promise((done) => {
  const image = new Image();
  image.onload = () => done(image.naturalWidth > 1 && image.naturalHeight > 1);
  image.onerror = () => done(false);
  image.src = uri;
});
const uris = [...document.querySelectorAll("image, img")].map(
  (e) => e.getAttribute("href") ?? e.getAttribute("src"));
const drawn = [...document.querySelectorAll("svg")].every(
  (e) => e.getBBox().width > 0 && e.getBoundingClientRect().height > 5);
for (const button of document.querySelectorAll("th[data-kind=number] button")) button.click();
Promise.all(uris.map(load)).then((loaded) => {
  const facts = {images: loaded.length, loaded: loaded.filter(Boolean).length, drawn,
    width: document.documentElement.scrollWidth, wide: wide.map((e) => e.outerHTML.slice(0, 90)),
    first: document.querySelector("table.slides tbody th")?.textContent.trim() ?? ""};
  document.title = "facts " + JSON.stringify(facts);
});
</script></body>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    return find_chromium()


@pytest.fixture(scope="module")
def pages(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a real run, and that of a cohort."""
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(0)
    for name, count in (("few", 5), ("many", 50), ("some", 20)):
        areas = {"Area µm^2": rng.gamma(6, 6, count)}
        write_result(folder / name, rng.uniform(0, 4000, (count, 2)), measurements=areas)
    write_cohort_report(folder)
    return {"slide": finished_run / "report.html", "cohort": folder / "cohort.html"}


def browse(chromium: str, page: Path, folder: Path, width: int, *options: str) -> tuple[str, str]:
    """Open a page; return its DOM and what the browser logged."""
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--hide-scrollbars",
        f"--window-size={width},2400", "--virtual-time-budget=4000", *options, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize("kind", ["slide", "cohort"])
def test_no_error_on_the_console(chromium: str, pages: dict[str, Path], kind: str, tmp_path: Path):
    """Console messages stand in the log as `INFO:CONSOLE` with their text."""
    shot = tmp_path / "shot.png"
    _, log = browse(chromium, pages[kind], tmp_path, 1280, f"--screenshot={shot}")
    assert "CONSOLE" not in log
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] == 1280
    assert (pixels[0] == 255).all(), "the page is white"
    assert 0.003 < (pixels < 128).any(axis=2).mean() < 0.7, "and something is on it"


def test_the_policy_is_in_force(chromium: str, pages: dict[str, Path], tmp_path: Path):
    """A script or a picture from elsewhere that got into the page would not run or load."""
    hostile = "<script>document.title = 'owned'</script><img alt='x' src='file:///x.png'></body>"
    page = tmp_path / "hostile.html"
    page.write_text(pages["slide"].read_text(encoding="utf-8").replace("</body>", hostile), "utf-8")
    dom, log = browse(chromium, page, tmp_path, 1280, "--dump-dom")
    assert "<title>owned" not in dom
    assert log.count("Content Security Policy") >= 2


@pytest.mark.parametrize("width", [500, 1280])
@pytest.mark.parametrize("kind", ["slide", "cohort"])
def test_all_is_drawn_and_nothing_is_cut_off(
    chromium: str, pages: dict[str, Path], kind: str, width: int, tmp_path: Path
):
    """500 pixels is the narrowest window of this browser; the layout is that of a phone."""
    facts = probed(chromium, pages[kind], width, tmp_path)
    assert facts["loaded"] == facts["images"]
    assert facts["images"] == (26 if kind == "slide" else 0)
    assert facts["drawn"]
    assert facts["wide"] == []
    assert facts["width"] <= width


def test_a_click_sorts(chromium: str, pages: dict[str, Path], tmp_path: Path):
    """By number of nuclei, then density, area and flags, as the probe clicks them.

    Area and flags are alike for all, so the order is that by density, smallest first.
    """
    assert probed(chromium, pages["cohort"], 1280, tmp_path)["first"] == "few"


def test_it_prints(chromium: str, pages: dict[str, Path], tmp_path: Path):
    printed = tmp_path / "page.pdf"
    options = ("--no-pdf-header-footer", f"--print-to-pdf={printed}")
    browse(chromium, pages["slide"], tmp_path, 1280, *options)
    pdf = printed.read_bytes()
    sheets = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert 2 <= sheets <= 6
    left, bottom, right, top = map(float, re.search(rb"/MediaBox\s*\[([^\]]+)\]", pdf)[1].split())
    assert (right - left, top - bottom) == pytest.approx((595, 842), abs=2)


def probed(chromium: str, page: Path, width: int, folder: Path) -> dict[str, object]:
    text = page.read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    copy = folder / f"{page.stem}.probe.html"
    copy.write_text(text.replace("</body>", PROBE), encoding="utf-8")
    dom, _ = browse(chromium, copy, folder, width, "--dump-dom")
    found = re.search(r"<title>facts (.*?)</title>", dom, re.S)
    assert found, dom[:500]
    facts = found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return json.loads(facts)
