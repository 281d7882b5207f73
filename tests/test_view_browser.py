"""The page in a real browser: it shows the nuclei, filters, and tells of one that is clicked."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.support.browser import Tab, find_chromium, open_tab
from tests.support.results import write_result
from tests.support.views import running
from wsi_engine.results.nucleus_table import read_nuclei
from wsi_engine.view.looking import export_view
from wsi_engine.view.server import ViewServer

WIDTH, HEIGHT = 1200, 800
TUMOR, STROMA = (200, 0, 0), (150, 200, 150)
"""QuPath's own colours."""

AREAS = 10.0 + np.arange(400) / 10

ALL_IS_THERE = (
    "globalThis.wsiView && wsiView.shading.known === wsiView.nuclei.count"
    " && wsiView.overlay.outlines.counts"
)
AT_REST = "!wsiView.overlay.moving && !wsiView.overlay.requested"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory):
    with open_tab(find_chromium(), tmp_path_factory.mktemp("browser")) as tab:
        tab.size(WIDTH, HEIGHT)
        yield tab


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 nuclei on a lattice over 1 mm²: tumour on the left, stroma on the right."""
    columns, rows = np.meshgrid(np.arange(20), np.arange(20))
    anchors = np.column_stack([columns.ravel(), rows.ravel()]) * 200.0 + 100
    return write_result(
        tmp_path_factory.mktemp("results") / "lattice",
        anchors,
        classes=("Tumor", "Stroma"),
        labels=(anchors[:, 0] > 2000).astype(int),
        measurements={"Area µm^2": AREAS, "Odd": np.where(np.arange(400) % 2 == 1, AREAS, np.nan)},
    )


@pytest.fixture(scope="module")
def server(folder: Path):
    with running(folder) as server:
        yield server


@pytest.fixture
def page(tab: Tab, server: ViewServer) -> Tab:
    tab.problems.clear()
    tab.go(server.address)
    tab.wait(ALL_IS_THERE)
    settle(tab)
    return tab


def settle(tab: Tab) -> None:
    """Wait until the page has drawn what was asked of it."""
    tab.ask("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    tab.wait(AT_REST)


def on_screen(tab: Tab, x: float, y: float) -> tuple[int, int]:
    """Return where a pixel of the slide is, in CSS pixels."""
    script = f"""(() => {{
      const {{ left, top, scale, ratio }} = wsiView.overlay.frame();
      return [({x} - left) * scale / ratio, ({y} - top) * scale / ratio]; }})()"""
    column, row = tab.ask(script)
    return round(column), round(row)


def colour_at(picture: np.ndarray, column: int, row: int) -> tuple[int, ...]:
    return tuple(picture[row, column].tolist())


def look_at(tab: Tab, x: float, y: float, width: float) -> None:
    """Bring a part of the slide to the screen at once."""
    tab.ask(f"""(() => {{
      const {{ viewport }} = wsiView.viewer;
      viewport.fitBounds(viewport.imageToViewportRectangle({x}, {y}, {width}, {width}), true);
    }})()""")
    settle(tab)


def test_nothing_goes_wrong_and_the_token_is_hidden(page: Tab, server: ViewServer):
    """Breaches of the content security policy would be among the problems."""
    assert page.problems == []
    assert page.ask("location.href") == f"http://127.0.0.1:{server.server_port}/"
    assert page.ask("document.cookie") == ""
    assert page.ask("document.getElementById('message').textContent") == ""
    assert page.ask("document.getElementById('shown').textContent") == "400 of 400"


def test_dots_are_where_the_nuclei_are_in_the_colours_of_their_classes(page: Tab):
    picture = page.picture()
    assert page.ask("wsiView.overlay.drawn.mode") == "points"
    for x, y, colour in ((100, 100, TUMOR), (1900, 3900, TUMOR), (2100, 100, STROMA)):
        column, row = on_screen(page, x, y)
        assert colour_at(picture, column, row) == colour
    column, row = on_screen(page, 200, 200)
    assert max(colour_at(picture, column, row)) < 40, "between them is the dark ground"


def test_a_class_can_be_hidden(page: Tab):
    page.ask("document.querySelectorAll('#classes input')[0].click()")
    settle(page)
    assert page.ask("document.getElementById('shown').textContent") == "200 of 400"
    picture = page.picture()
    assert colour_at(picture, *on_screen(page, 100, 100)) != TUMOR
    assert colour_at(picture, *on_screen(page, 2100, 100)) == STROMA


def choose(tab: Tab, name: str) -> None:
    tab.ask(f"""(() => {{
      const select = document.getElementById("colour-by");
      select.value = [...select.options].find((option) => option.text === "{name}").value;
      select.dispatchEvent(new Event("change"));
    }})()""")
    tab.wait("wsiView.shading.known === wsiView.nuclei.count")
    settle(tab)


def test_a_measurement_colours_and_its_histogram_filters(page: Tab):
    choose(page, "Area µm^2")
    before = page.picture()
    low, high = (colour_at(before, *on_screen(page, *at)) for at in ((100, 100), (3900, 3900)))
    assert low[2] > low[0], "small is blue"
    assert high[0] > high[2], "large is red"
    x, y, width, height = page.ask("""(() => {
      const box = document.querySelector("#histogram canvas").getBoundingClientRect();
      return [box.x, box.y, box.width, box.height]; })()""")
    page.click(x + width * 0.25, y + height / 2)  # the handle on the left goes there
    settle(page)
    shown = page.ask("wsiView.shading.shown")
    assert shown == pytest.approx(300, abs=8)
    smallest = page.ask("wsiView.shading.filters.values().next().value[0]")
    assert shown == (AREAS.astype(np.float32) >= smallest).sum(), "as the table has it"
    after = page.picture()
    assert colour_at(after, *on_screen(page, 100, 100)) != low
    assert colour_at(after, *on_screen(page, 3900, 3900)) == high
    choose(page, "Class")
    assert page.ask("wsiView.shading.shown") == shown, "the filter stays, and can be removed"
    page.ask("document.querySelector('#filters button').click()")
    settle(page)
    assert page.ask("wsiView.shading.shown") == 400


def test_what_has_no_value_is_grey_and_in_no_range(page: Tab):
    choose(page, "Odd")
    red, green, blue = colour_at(page.picture(), *on_screen(page, 100, 100))
    assert max(red, green, blue) - min(red, green, blue) < 30
    page.ask("wsiView.panel.histogram.choose(0, 1e9)")
    page.ask("wsiView.panel.filter(wsiView.shading.by, [0, 1e9])")
    settle(page)
    assert page.ask("wsiView.shading.shown") == 200


def test_outlines_are_drawn_when_near(page: Tab):
    """A nucleus is a disc of radius 4 px around its anchor: 4 px off is its border."""
    look_at(page, 1860, 1860, 80)
    page.wait("wsiView.overlay.drawn.mode === 'outlines'")
    picture = page.picture().astype(int)
    border = picture[on_screen(page, 1904, 1900)[1], on_screen(page, 1904, 1900)[0]]
    inside, outside = (
        picture[on_screen(page, x, 1900)[1], on_screen(page, x, 1900)[0]] for x in (1900, 1910)
    )
    assert border[0] > 130 > inside[0] > outside[0]


@pytest.mark.parametrize("near", [True, False])
def test_a_click_tells_of_a_nucleus_and_its_id(page: Tab, folder: Path, near: bool):
    if near:
        look_at(page, 1860, 1860, 80)
        page.wait("wsiView.overlay.drawn.mode === 'outlines'")
    column, row = on_screen(page, 1900, 1900)
    around = np.s_[row - 60 : row + 60, column - 60 : column + 60]
    assert not (page.picture()[around] > 225).all(axis=2).any()
    page.click(*on_screen(page, 1900 + 2 * near, 1900))
    page.wait("!document.getElementById('nucleus').hidden")
    table = read_nuclei(folder / "nuclei.parquet").arrow
    anchors = list(zip(table["x"].to_pylist(), table["y"].to_pylist(), strict=True))
    number = anchors.index((1900.0, 1900.0))
    text = page.ask("document.getElementById('nucleus').textContent")
    assert table["id"][number].as_py() in text
    assert f"Area µm^2{table['Area µm^2'][number].as_py():.4g}" in text
    assert "classTumor" in text
    settle(page)
    assert (page.picture()[around] > 225).all(axis=2).sum() > 20, "it is marked in white"
    page.ask("document.querySelector('#nucleus button[aria-label=Close]').click()")
    assert page.ask("document.getElementById('nucleus').hidden")


def test_the_scale_bar_is_as_long_as_it_says(page: Tab):
    look_at(page, 1000, 1000, 1000)
    text = page.ask("document.getElementById('scale-text').textContent")
    width = page.ask("document.getElementById('scale-line').getBoundingClientRect().width")
    number, unit = text.split()
    um = float(number) * (1000 if unit == "mm" else 1)
    left, right = on_screen(page, 1000, 0)[0], on_screen(page, 2000, 0)[0]
    assert width == pytest.approx((right - left) * um / 250, abs=2), "1000 px are 250 µm"


def test_a_real_slide_with_its_regions(tab: Tab, finished_run: Path):
    tab.problems.clear()
    with running(finished_run) as server:
        tab.go(server.address)
        tab.wait(f"{ALL_IS_THERE} && wsiView.viewer.world.getItemAt(0)?.getFullyLoaded()")
        tab.wait("wsiView.overlay.regions.regions.length")
        settle(tab)
        assert tab.problems == []
        picture = tab.picture()
        assert tab.ask("document.querySelectorAll('#layers .mark.annotation').length") == 1
    stage = picture[:, : WIDTH - 330].astype(int)
    pink = (stage[..., 0] > stage[..., 1] + 25) & (stage[..., 2] > stage[..., 1])
    assert pink.mean() > 0.05, "stained tissue"


def test_static_files_look_the_same(page: Tab, folder: Path, tmp_path: Path):
    served = page.picture()
    export_view(folder, tmp_path / "view")
    handler = partial(QuietHandler, directory=str(tmp_path / "view"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        try:
            page.problems.clear()
            page.go(f"http://127.0.0.1:{files.server_port}/")
            page.wait(ALL_IS_THERE)
            settle(page)
            assert page.problems == []
            assert np.array_equal(page.picture(), served)
        finally:
            files.shutdown()
            thread.join()


def test_opened_as_a_file_it_says_what_to_do(page: Tab, folder: Path, tmp_path: Path):
    """Browsers let no page read the files beside it."""
    export_view(folder, tmp_path / "view")
    page.go((tmp_path / "view" / "index.html").as_uri())
    page.wait("document.readyState === 'complete'")
    text = page.ask("document.getElementById('message').textContent")
    assert "python -m http.server" in text


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *values: object) -> None:
        pass
