"""A view as static files is the view that is served, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.results import write_result
from tests.support.views import request, running
from wsi_engine.cli.app import app
from wsi_engine.errors import OutputError, ResultError, SlideError
from wsi_engine.view import looking
from wsi_engine.view.content import ViewContent
from wsi_engine.view.looking import export_view


@pytest.fixture(scope="module")
def exported(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("export") / "view"
    done = CliRunner().invoke(app, ["view", str(finished_run), "--export", str(target)])
    assert done.exit_code == 0, done.output
    count = sum(path.is_file() for path in target.rglob("*"))
    assert f"{count:,}" in done.output
    return target


def test_every_file_is_what_is_served_under_its_name(exported: Path, finished_run: Path):
    files = [path for path in exported.rglob("*") if path.is_file()]
    with running(finished_run) as server:
        assert {path.relative_to(exported).as_posix() for path in files} == set(
            server.content.names()
        )
        for path in files:
            name = path.relative_to(exported).as_posix()
            answer, body = request(server, f"/{name}", Authorization=f"Bearer {server.token}")
            assert answer.status == 200
            assert body == path.read_bytes(), name


def test_nothing_is_left_beside_it(exported: Path):
    assert list(exported.parent.iterdir()) == [exported]


def test_the_slide_is_as_fine_as_the_limit_allows(finished_run: Path, tmp_path, monkeypatch):
    monkeypatch.setattr(looking, "MOST_SLIDE_TILES", 10)
    export_view(finished_run, tmp_path / "view")
    told = json.loads((tmp_path / "view/data/view.json").read_text("utf-8"))
    finest = told["slide"]["finest"]
    assert 0 < finest < told["slide"]["halvings"]
    halvings = {int(path.name) for path in (tmp_path / "view/data/slide").iterdir()}
    assert halvings == set(range(finest, told["slide"]["halvings"]))
    assert len(list((tmp_path / "view/data/slide").rglob("*.jpg"))) <= 10


def test_what_is_there_already_is_left_alone(finished_run: Path, tmp_path: Path):
    (tmp_path / "view").mkdir()
    with pytest.raises(OutputError, match="is there already: remove it, or give another folder"):
        export_view(finished_run, tmp_path / "view")
    assert list((tmp_path / "view").iterdir()) == []


def test_an_export_that_fails_leaves_nothing(finished_run: Path, tmp_path, monkeypatch):
    def fail(content: ViewContent, name: str) -> bytes:
        if name.startswith("data/values"):
            raise ResultError("damaged")
        return b""

    monkeypatch.setattr(ViewContent, "get", fail)
    with pytest.raises(ResultError):
        export_view(finished_run, tmp_path / "view")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(finished_run: Path, tmp_path: Path):
    with pytest.raises(OutputError, match=r"cannot write to .*: there is no such folder"):
        export_view(finished_run, tmp_path / "absent" / "view")


def test_without_the_slide_nuclei_are_shown(tmp_path: Path, caplog):
    folder = write_result(tmp_path / "s", [[10, 10], [2000, 3000]])
    export_view(folder, tmp_path / "view")
    assert "the slide is not at hand" in caplog.text
    told = json.loads((tmp_path / "view/data/view.json").read_text("utf-8"))
    assert told["slide"] is None
    assert not (tmp_path / "view/data/slide").exists()


def test_what_is_no_result_or_no_slide_is_told(finished_run: Path, tmp_path: Path):
    with pytest.raises(ResultError):
        export_view(tmp_path, tmp_path / "view")
    with pytest.raises(SlideError, match="no such file"):
        export_view(finished_run, tmp_path / "view", tmp_path / "absent.svs")
    assert list(tmp_path.iterdir()) == []
