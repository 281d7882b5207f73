"""What a user names, and the slides that come of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import fsspec
import pytest

from tests.support.slides import noise
from tests.support.zarrs import write_ome_zarr
from wsi_engine.archive.inputs import SlideJob, list_slides, parse_share, share_first
from wsi_engine.archive.manifest import read_manifest
from wsi_engine.errors import ManifestError, SettingsError, SlideError
from wsi_engine.slide.finding import find_slides


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


# --- folders --------------------------------------------------------------------------------


def test_a_folder_is_searched_to_any_depth_in_order(tmp_path: Path):
    names = ["b.svs", "a/c.ndpi", "a/b/d.TIF", "a.mrxs"]
    for name in [*names, "notes.txt", "a/.d.svs", ".trash/e.svs"]:
        touch(tmp_path / name)
    found = [str(path.relative_to(tmp_path)) for path in find_slides([str(tmp_path)])]
    assert found == ["a/b/d.TIF", "a/c.ndpi", "a.mrxs", "b.svs"]


@pytest.mark.skipif(sys.platform == "win32", reason="makes symbolic links")
def test_symbolic_links_are_followed_but_never_in_a_circle(tmp_path: Path):
    slides = tmp_path / "slides"
    touch(slides / "deep" / "a.svs")
    elsewhere = touch(tmp_path / "elsewhere" / "b.svs")
    (slides / "deep" / "up").symlink_to(slides)
    (slides / "self").symlink_to(slides / "self")
    (slides / "out").symlink_to(elsewhere.parent)
    (elsewhere.parent / "back").symlink_to(slides)
    found = find_slides([str(slides)])
    assert [path.name for path in found] == ["a.svs", "b.svs"]


@pytest.mark.skipif(sys.platform == "win32", reason="makes symbolic links")
def test_a_file_of_several_names_is_one_slide(tmp_path: Path):
    real = touch(tmp_path / "store" / "0001.svs")
    for name in ("patient_b.svs", "patient_a.svs"):
        (tmp_path / name).symlink_to(real)
    (listed,) = list_slides([str(tmp_path)])
    assert listed.path == os.path.realpath(real)
    assert listed.name == "patient_a"


def test_results_among_the_slides_are_no_slides(tmp_path: Path):
    touch(tmp_path / "a.svs")
    touch(tmp_path / "results" / "a" / "overlay.png")
    listed = list_slides([str(tmp_path)], leave_out=tmp_path / "results")
    assert [Path(slide.path).name for slide in listed] == ["a.svs"]


def test_a_folder_that_cannot_be_searched_is_told(tmp_path: Path, caplog, monkeypatch):
    touch(tmp_path / "a.svs")
    closed = tmp_path / "closed"
    closed.mkdir()
    scandir = os.scandir

    def guarded(folder):
        if Path(folder) == closed:  # permissions do not keep root out
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    assert [path.name for path in find_slides([str(tmp_path)])] == ["a.svs"]
    assert "closed cannot be searched for slides: Permission denied" in caplog.text


@pytest.mark.parametrize("name", ["absent.svs", "*.svs", "memory://nowhere/*.svs"])
def test_a_name_without_a_slide_is_an_error(tmp_path: Path, name: str):
    with pytest.raises(SlideError, match="no s"):
        list_slides([name if "://" in name else str(tmp_path / name)])


@pytest.mark.parametrize("url", ["nonsense://a.svs", "s3:///"])
def test_a_url_that_leads_nowhere_is_an_error(url: str):
    with pytest.raises(SlideError, match=url[:2]):
        list_slides([url])


def test_urls_of_files_folders_and_patterns():
    memory = fsspec.filesystem("memory")
    for name in ("a.svs", "deep/b.svs", "deep/notes.txt"):
        memory.pipe_file(f"/inputs/{name}", b"")
    paths = {
        "memory://inputs": ["memory:///inputs/a.svs", "memory:///inputs/deep/b.svs"],
        "memory://inputs/*.svs": ["memory:///inputs/a.svs"],
        "memory://inputs/deep/b.svs": ["memory:///inputs/deep/b.svs"],
    }
    for url, expected in paths.items():
        assert [slide.path.replace(":////", ":///") for slide in list_slides([url])] == expected


def test_folders_that_are_slides_there_are_found_and_not_searched(tmp_path: Path):
    memory = fsspec.filesystem("memory")
    slide = write_ome_zarr(tmp_path / "slide.zarr", noise(100, 100), levels=1)
    memory.put(str(slide), "/zarrs/deep/a.ome.zarr", recursive=True)
    table = '{"node_type": "group", "attributes": {}}'
    memory.pipe_file("/zarrs/table.zarr/zarr.json", table.encode())
    memory.pipe_file("/zarrs/table.zarr/picture.png", b"")
    memory.pipe_file("/zarrs/b.svs", b"")
    for url in ("memory://zarrs", "memory://zarrs/deep/a.ome.zarr", "memory://zarrs/deep/*.zarr"):
        names = [slide.path.rpartition("/")[2] for slide in list_slides([url])]
        assert names == (["b.svs", "a.ome.zarr"] if url == "memory://zarrs" else ["a.ome.zarr"])


# --- shares ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/", "a/b", "1/0", "-1/2", "1/2/3"])
def test_what_is_no_share(text: str):
    with pytest.raises(SettingsError, match=r"--share"):
        parse_share(text)


@pytest.mark.parametrize("shares", [1, 2, 3, 7])
def test_shares_begin_apart_and_each_covers_everything(shares: int):
    jobs = [SlideJob(f"/{k}", str(k)) for k in range(7)]
    orders = [share_first(jobs, (k + 1, shares)) for k in range(shares)]
    assert len({order[0].name for order in orders}) == shares
    for order in orders:
        assert sorted(job.name for job in order) == [job.name for job in jobs]


# --- the manifest ---------------------------------------------------------------------------


def manifest(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_settings_and_facts_of_a_manifest(tmp_path: Path):
    text = (
        "path;slide;mpp;roi;model;patient;group\n"
        "a.svs;case 1;0,25;rois/a.geojson;;007;x\n"
        "/far/b.svs;;;;watershed;;y\n"
        "s3://bucket/c.svs;;0.5;;;9;\n"
    )
    first, second, third = read_manifest(manifest(tmp_path, text))
    assert first.path == os.path.realpath(tmp_path / "a.svs")
    assert first.name == "case 1"
    assert first.overrides == {"mpp": 0.25, "roi": tmp_path / "rois" / "a.geojson"}
    assert first.facts == {"patient": "007", "group": "x"}
    assert (second.path, second.name) == (os.path.realpath("/far/b.svs"), None)
    assert (second.overrides, second.facts) == ({"model": "watershed"}, {"group": "y"})
    assert (third.path, third.overrides) == ("s3://bucket/c.svs", {"mpp": 0.5})


def test_a_column_slide_alone_is_the_path(tmp_path: Path):
    (slide,) = read_manifest(manifest(tmp_path, "slide,split\na.svs,train\n"))
    assert slide.path == os.path.realpath(tmp_path / "a.svs")
    assert (slide.name, slide.facts) == (None, {"split": "train"})


def test_a_manifest_and_a_folder_together_name_a_slide_once(tmp_path: Path):
    for name in ("a.svs", "b.svs"):
        touch(tmp_path / name)
    rows = read_manifest(manifest(tmp_path, "path,mpp\na.svs,0.5\n"))
    listed = list_slides([str(tmp_path)], rows)
    assert [(Path(s.path).name, s.overrides) for s in listed] == [
        ("a.svs", {"mpp": 0.5}),
        ("b.svs", {}),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'path' or 'slide'"),
        ("name\na\n", "no column 'path' or 'slide'; it has name"),
        ("path\n", "names no slide"),
        ("path,mpp\n,1\n", "line 2 names no slide"),
        ("path,mpp\na.svs,1\nb.svs,fine\n", "line 3: mpp = 'fine'"),
        ("path,mpp\na.svs,0\n", "line 2: mpp = 0"),
        ("path,mpp\na.svs,nan\n", "line 2: mpp = nan"),
        ("path,mpp\na.svs,-0.25\n", "line 2: mpp = -0.25"),
        ("path,model\na.svs,watersheds\n", "line 2: unknown model 'watersheds': did you mean"),
        ("path,stains\na.svs,Giemsa\n", "line 2: stains"),
        ("path,x\na.svs,1\n\nx/../a.svs,2\n", "lines 2 and 4 are both"),
        ("path,slide\na.svs,one\nb.svs,one\n", "lines 2 and 3 are both one"),
        ("path,mpp\na.svs\n", "line 2 has 1 values, the header 2"),
        ("path,mpp,mpp\na.svs,1,2\n", "a name of its own"),
        ("path\na\0.svs\n", "line 2"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_told_with_its_line(tmp_path: Path, text, words):
    with pytest.raises(ManifestError, match=words):
        read_manifest(manifest(tmp_path, text))
