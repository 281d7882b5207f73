"""The progress of runs in a notebook: a bar by default, drawn by IPython itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

import wsi_engine
from wsi_engine.engine.notebook import NotebookProgress, observing
from wsi_engine.engine.progress import Progress, ignore
from wsi_engine.engine.stages import STAGES
from wsi_engine.errors import SettingsError
from wsi_engine.sample import SampleTruth


@pytest.fixture
def notebook():
    """A shell of IPython as a kernel has it; gives what its cells would show."""
    shell = InteractiveShell.instance()
    shell.display_pub = CapturingDisplayPublisher()
    shell.kernel = object()
    yield shell.display_pub.outputs
    InteractiveShell.clear_instance()


def texts(outputs) -> list[str]:
    return [output["data"]["text/plain"] for output in outputs]


def test_a_run_shows_one_bar_that_grows(notebook, sample: SampleTruth, tmp_path: Path):
    result = wsi_engine.run(sample.slide_path, tmp_path, model="watershed", measure=())
    assert [output["update"] for output in notebook] == [False] + [True] * (len(notebook) - 1)
    assert len({output["transient"]["display_id"] for output in notebook}) == 1
    shown = texts(notebook)
    assert shown[0] == f"{sample.slide_path.name}: {STAGES['tissue']}"
    assert any(STAGES["nuclei"] in text for text in shown)
    assert shown[-1].startswith(f"{sample.slide_path.name}: done, ")
    assert shown[-1].endswith(f"{result.count:,} nuclei")
    again = len(notebook)
    assert wsi_engine.run(sample.slide_path, tmp_path, model="watershed", measure=()).is_earlier
    assert len(notebook) == again, "what is there already is no progress"


def test_nuclei_of_others_are_measured_with_a_bar(notebook, sample: SampleTruth, tmp_path: Path):
    found = wsi_engine.run(sample.slide_path, tmp_path / "a", model="watershed", observe=ignore)
    assert notebook == []
    nuclei = found.folder / "nuclei.geojson.gz"
    wsi_engine.measure(sample.slide_path, nuclei, tmp_path / "b", measure=("shape",))
    assert any(STAGES["measuring"] in text for text in texts(notebook))


def test_who_observes_sees_it_alone(notebook, sample: SampleTruth):
    seen = []
    wsi_engine.run(sample.slide_path, model="watershed", measure=(), observe=seen.append)
    assert len(seen) > 3
    assert notebook == []


def test_a_run_that_fails_says_so_in_the_bar(notebook):
    def fail():
        with observing(None) as observe:
            observe(Progress("a.svs", "nuclei", 3, 10, nuclei=1234))
            raise SettingsError("no")

    with pytest.raises(SettingsError):
        fail()
    assert texts(notebook)[-1] == "a.svs: stopped, 3 of 10 tiles, 1,234 nuclei"


def test_many_tiles_are_few_updates_and_a_name_is_no_html(notebook):
    bar = NotebookProgress()
    for tile in range(10_000):
        bar(Progress("<b>.svs", "nuclei", tile, 10_000))
    assert 1 <= len(notebook) < 20
    assert "<b>" not in notebook[0]["data"]["text/html"]
    assert '<progress value="0" max="10000">' in notebook[0]["data"]["text/html"]


def test_a_script_and_a_terminal_show_nothing(notebook):
    shell = InteractiveShell.instance()
    shell.kernel = None
    with observing(None) as observe:
        assert observe is ignore
    InteractiveShell.clear_instance()
    with observing(None) as observe:
        assert observe is ignore
