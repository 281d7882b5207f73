"""Slides on other file systems: copied, kept while there is room, shared by processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import pytest

from tests.support.archives import SETTINGS, results, write_slide
from tests.support.slides import noise
from tests.support.zarrs import write_ome_zarr
from wsi_engine import run_archive
from wsi_engine.archive import cache as module
from wsi_engine.archive.cache import CacheSettings, default_folder, local_copy, parse_bytes
from wsi_engine.errors import SettingsError, SlideError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs locks of POSIX")

PARTS = {
    "slide.mrxs": ["slide/Slidedat.ini", "slide/Data0000.dat", "slide/deep/Data0001.dat"],
    "slide.vms": ["slide_map.jpg", "slide_0.jpg"],
    "slide.dcm": ["level_1.dcm", "label.dcm"],
    "slide.svs": [],
}
"""Files that belong to a slide."""

INDEX = b"[Virtual Microscope Specimen]\nMapFile=slide_map.jpg\nImageFile(0,0)=slide_0.jpg\n"


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


def cache(tmp_path: Path, most_bytes: int = 10**6) -> CacheSettings:
    return CacheSettings(tmp_path / "cache", most_bytes)


def kept(settings: CacheSettings) -> set[str]:
    """Names of the slides that the cache holds."""
    return {
        path.name for path in settings.folder.glob("*/*") if not path.parent.name.endswith("ing")
    }


def put(memory, name: str, size: int = 100) -> str:
    memory.pipe_file(f"/{name}", name.encode() * (size // len(name)))
    return f"memory://{name}"


@pytest.mark.parametrize(
    ("text", "number"), [("500GB", 500 * 10**9), ("1.5 tb", 15 * 10**11), ("7", 7), ("2k", 2000)]
)
def test_sizes(text: str, number: int):
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["", "0", "-1GB", "1XB", "GB", "nan", "1e9"])
def test_what_is_no_size(text: str):
    with pytest.raises(SettingsError, match="--cache-size"):
        parse_bytes(text)


def test_a_path_of_this_machine_is_not_copied(tmp_path: Path):
    with local_copy(str(tmp_path / "a.svs"), cache(tmp_path)) as path:
        assert path == tmp_path / "a.svs"
    assert not (tmp_path / "cache").exists()


def test_a_url_is_copied_once_under_its_own_name(tmp_path: Path, memory):
    url, settings = put(memory, "deep/a.svs"), cache(tmp_path)
    with local_copy(url, settings) as path:
        assert (path.name, path.read_bytes()) == ("a.svs", memory.cat_file("/deep/a.svs"))
        first = path.stat().st_ino
    with local_copy(url, settings) as path:
        assert path.stat().st_ino == first


def test_a_file_that_changed_is_copied_again(tmp_path: Path):
    there, settings = tmp_path / "there.svs", cache(tmp_path)
    for content in (b"one", b"two", b"three"):
        there.write_bytes(content)
        os.utime(there, ns=(0, len(content) * 10**9 + content[0]))
        with local_copy(f"file://{there}", settings) as path:
            assert path.read_bytes() == content


@pytest.mark.parametrize("slide", PARTS)
@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_every_file_of_a_slide_comes_along(tmp_path: Path, memory, slide: str, protocol: str):
    top = tmp_path / "there" if protocol == "file" else Path("/there")
    system = fsspec.filesystem(protocol)
    for name in [slide, *PARTS[slide], "other.svs", "other.jpg"]:
        system.makedirs(str((top / name).parent), exist_ok=True)
        system.pipe_file(str(top / name), INDEX if name.endswith(".vms") else name.encode())
    with local_copy(f"{protocol}://{top}/{slide}", cache(tmp_path)) as path:
        found = {str(p.relative_to(path.parent)) for p in path.parent.rglob("*") if p.is_file()}
        assert found == {slide, *PARTS[slide]}
        for name in PARTS[slide]:
            assert (path.parent / name).read_bytes() == name.encode()


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("ending", ["", "/"])
def test_a_slide_that_is_a_folder_comes_whole(tmp_path: Path, memory, monkeypatch, at_once, ending):
    path = write_ome_zarr(tmp_path / "slide.zarr", noise(200, 200), levels=2)
    memory.put(str(path), "/there/slide.zarr", recursive=True)
    monkeypatch.setattr(type(memory), "async_impl", at_once)
    with local_copy(f"memory://there/slide.zarr{ending}", cache(tmp_path)) as copy:
        assert copy.name == "slide.zarr"
        names = {file.relative_to(path) for file in path.rglob("*") if file.is_file()}
        assert {file.relative_to(copy) for file in copy.rglob("*") if file.is_file()} == names
        for name in names:
            assert (copy / name).read_bytes() == (path / name).read_bytes()


def test_the_longest_unused_goes_first(tmp_path: Path, memory):
    urls = {name: put(memory, f"{name}.svs", 400) for name in "abc"}
    settings = cache(tmp_path, 1000)
    for name in "aba":
        with local_copy(urls[name], settings):
            time.sleep(0.02)
    with local_copy(urls["c"], settings):
        assert kept(settings) == {"a.svs", "c.svs"}


def test_what_is_in_use_stays_and_others_wait_for_room(tmp_path: Path, memory):
    first, second = put(memory, "a.svs", 600), put(memory, "b.svs", 600)
    settings = cache(tmp_path, 1000)
    got_second = threading.Event()

    def want_second() -> None:
        with local_copy(second, settings):
            got_second.set()

    with local_copy(first, settings) as path:
        thread = threading.Thread(target=want_second)
        thread.start()
        assert not got_second.wait(1)
        assert path.exists()
    thread.join(10)
    assert got_second.is_set()
    assert kept(settings) == {"b.svs"}


def test_a_slide_larger_than_the_cache_is_told(tmp_path: Path, memory):
    with (
        pytest.raises(SlideError, match="--cache-size"),
        local_copy(put(memory, "a.svs", 500), cache(tmp_path, 400)),
    ):
        pass


def test_a_url_without_a_file_is_told(tmp_path: Path, memory):
    with (
        pytest.raises(SlideError, match=r"memory://absent\.svs: no such file"),
        local_copy("memory://absent.svs", cache(tmp_path)),
    ):
        pass


def test_a_copy_that_breaks_off_leaves_nothing_to_be_taken_for_a_slide(
    tmp_path: Path, memory, monkeypatch
):
    url, settings = put(memory, "a.svs", 400), cache(tmp_path, 500)
    chunks = module._chunks

    def broken(*arguments):
        yield next(chunks(*arguments))[:100]
        raise SlideError("the line is dead")

    monkeypatch.setattr(module, "_chunks", broken)
    with pytest.raises(SlideError, match="line is dead"), local_copy(url, settings):
        pass
    assert kept(settings) == set()
    monkeypatch.undo()
    # Neither does it take up room: another of the same size fits, and so does it itself.
    for other in (put(memory, "b.svs", 400), url):
        with local_copy(other, settings) as path:
            assert path.stat().st_size == 400


HOLD = """
import sys
from pathlib import Path
from wsi_engine.archive.cache import CacheSettings, local_copy
with local_copy(sys.argv[1], CacheSettings(Path(sys.argv[2]), int(sys.argv[3]))) as path:
    print(path.read_bytes().decode()[:1], flush=True)
    sys.stdin.read()
"""


def test_processes_share_a_copy_and_one_that_is_killed_holds_nothing(tmp_path: Path):
    settings = cache(tmp_path, 1000)
    for name in "ab":
        (tmp_path / f"{name}.svs").write_text(name * 600)
    url = f"file://{tmp_path}/a.svs"
    command = [sys.executable, "-c", HOLD, url, settings.folder, str(settings.most_bytes)]
    holders = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for holder in holders:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "a\n"
    assert len(list(settings.folder.glob("*/a.svs"))) == 1
    for holder in holders:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with local_copy(f"file://{tmp_path}/b.svs", settings):
        assert kept(settings) == {"b.svs"}


def test_an_archive_on_another_file_system(tmp_path: Path, memory):
    for k in range(3):
        slide = write_slide(tmp_path / "here" / f"slide_{k}.tif", k)
        memory.put_file(str(slide), f"/there/slide_{k}.tif")
    run_archive([tmp_path / "here"], tmp_path / "a", **SETTINGS)
    settings = CacheSettings(tmp_path / "cache", 2 * slide.stat().st_size + 1000)
    summary = run_archive(["memory://there"], tmp_path / "b", cache=settings, **SETTINGS)
    assert (len(summary.done), summary.computed) == (3, 3)
    assert results(tmp_path / "a") == results(tmp_path / "b")
    shutil.rmtree(settings.folder)
    again = run_archive(["memory://there"], tmp_path / "b", cache=settings, **SETTINGS)
    assert (len(again.done), again.computed) == (3, 0)
    assert not settings.folder.exists()


def test_copies_are_in_the_users_folder_for_caches(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "wsi-engine" / "slides"
