"""OME-Zarr as slides: every pixel as it was written, and nothing of the metadata trusted."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from numcodecs import Delta, get_codec
from ome_zarr.writer import write_image

from tests.support.slides import noise
from tests.support.zarrs import change_json, halved, rgb_channels, write_ome_zarr
from wsi_engine.errors import SlideError
from wsi_engine.slide.fingerprint import fingerprint
from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.ome_zarr import unpacking
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.protocol import UnreadableRegionError
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.slide.readers import is_slide_folder, reader_basis

IMAGE = noise(301, 423)


def pixels_of(path: Path, level: int = 0) -> np.ndarray:
    with open_slide(path) as slide:
        size = slide.info.levels[level]
        return slide.read(level, LevelBox(0, 0, size.width, size.height))


def written(folder: Path, **how) -> Path:
    return write_ome_zarr(folder / "slide.zarr", IMAGE, **how)


# --- pixels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["cyx", "tczyx", "czyx", "tcyx", "yxc", "zcyx"])
def test_every_level_has_the_pixels_that_were_written(tmp_path, version, axes):
    path = written(tmp_path, version=version, axes=axes)
    expected = IMAGE
    with open_slide(path) as slide:
        assert [(level.width, level.height) for level in slide.info.levels] == [
            (423, 301), (211, 150), (105, 75),
        ]  # fmt: skip
        assert [level.downsample for level in slide.info.levels] == [1, 2, 4]
    for level in range(3):
        np.testing.assert_array_equal(pixels_of(path, level), expected)
        expected = halved(expected)


HOW_WRITTEN = {
    "shards": {"shard": 128},
    "shards of one chunk": {"shard": 64},
    "shards of one channel": {"shard": 128, "one_channel": True},
    "chunks of one channel": {"one_channel": True},
    "not compressed": {"compressors": None},
    "gzip": {"compressors": zarr.codecs.GzipCodec()},
    "blosc": {"compressors": zarr.codecs.BloscCodec(cname="lz4")},
    "zstd with checksums": {"compressors": [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]},
    "0.4": {"version": "0.4", "separator": "."},
    "0.4, zlib": {"version": "0.4", "compressors": {"id": "zlib", "level": 1}},
    "0.4, lz4": {"version": "0.4", "compressors": {"id": "lz4"}},
    "0.4, blosc": {"version": "0.4", "compressors": {"id": "blosc", "cname": "zstd"}},
    "0.4, differences": {"version": "0.4", "filters": [Delta("|u1")]},
}


@pytest.mark.parametrize("how", HOW_WRITTEN.values(), ids=HOW_WRITTEN)
def test_chunks_shards_and_codecs(tmp_path, how):
    path = written(tmp_path, **how)
    np.testing.assert_array_equal(pixels_of(path), IMAGE)
    with open_slide(path) as slide:
        box = LevelBox(-20, 70, 300, 300)  # outside is white
        expected = np.full((300, 300, 3), 255, np.uint8)
        expected[: 301 - 70, 20:] = IMAGE[70:, :280]
        np.testing.assert_array_equal(slide.read(0, box), expected)
        assert (slide.info.levels[0].tile_width, slide.info.levels[0].tile_height) == (64, 64)


def test_as_ome_zarr_py_writes_it(tmp_path):
    group = zarr.create_group(tmp_path / "slide.ome.zarr")
    write_image(np.moveaxis(IMAGE, -1, 0), group, axes="cyx")
    np.testing.assert_array_equal(pixels_of(tmp_path / "slide.ome.zarr"), IMAGE)
    with open_slide(tmp_path / "slide.ome.zarr") as slide:
        assert len(slide.info.levels) > 1
        assert slide.info.mpp is None


@pytest.mark.parametrize("top", ["", "slide.zarr/"])
@pytest.mark.parametrize("name", ["slide.zarr.zip", "slide.OZX"])
@pytest.mark.parametrize("shard", [None, 128])
def test_in_a_zip_file(tmp_path, top, name, shard):
    folder = written(tmp_path, shard=shard)
    with zipfile.ZipFile(tmp_path / name, "w") as target:
        for file in folder.rglob("*"):
            if file.is_file():
                target.write(file, top + file.relative_to(folder).as_posix())
    np.testing.assert_array_equal(pixels_of(tmp_path / name), IMAGE)


def test_the_plane_that_is_shown_is_read(tmp_path):
    path = written(tmp_path, axes="czyx", planes=3, omero={"rdefs": {"defaultZ": 2}})
    np.testing.assert_array_equal(pixels_of(path), IMAGE)
    with open_slide(path) as slide:
        assert slide.info.focal_planes == 3


@pytest.mark.parametrize(
    ("omero", "order"),
    [
        (rgb_channels(["FF0000", "00FF00", "0000FF"]), [0, 1, 2]),
        (rgb_channels(["0000FF", "00FF00", "FF0000"]), [2, 1, 0]),
        (rgb_channels(["FFFFFF"] * 3, ["B", "G", "R"]), [2, 1, 0]),
        (rgb_channels(["808080"] * 3, ["Channel 0", "Channel 1", "Channel 2"]), [0, 1, 2]),
        ({"channels": "nonsense"}, [0, 1, 2]),
    ],
    ids=["rgb", "bgr", "names", "nothing said", "nonsense"],
)
def test_channels_are_the_colours_that_they_are_shown_in(tmp_path, omero, order):
    path = written(tmp_path, omero=omero)
    np.testing.assert_array_equal(pixels_of(path), IMAGE[..., order])


# --- what is known of it ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "scale", "um"),
    [
        ("micrometer", 0.25, 0.25),
        ("nanometer", 250.0, 0.25),
        ("millimeter", 0.0005, 0.5),
        ("µm", 0.5, 0.5),
        ("angstrom", 2500.0, 0.25),
        (None, 0.25, "the file states 0.25 without a unit"),
        ("parsec", 0.25, "the file states it in 'parsec', which is no unit of length"),
        ("micrometer", 352.8, "the file states 352.8 x 352.8 µm, which no slide of tissue has"),
    ],
)
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_pixel_size(tmp_path, version, unit, scale, um):
    path = written(tmp_path, version=version, unit=unit, scale=scale)
    with open_slide(path) as slide:
        if isinstance(um, str):
            assert (slide.info.mpp, slide.info.mpp_source) == (None, um)
        else:
            assert slide.info.mpp is not None
            assert (slide.info.mpp.x, slide.info.mpp.y) == pytest.approx((um, um))


def test_the_scale_of_all_levels_counts_too(tmp_path):
    path = written(tmp_path, version="0.4", scale=1.0)
    change_json(
        path / ".zattrs",
        lambda content: content["multiscales"][0].update(
            coordinateTransformations=[{"type": "scale", "scale": [1.0, 0.5, 0.25]}]
        ),
    )
    with open_slide(path) as slide:
        assert (slide.info.mpp.x, slide.info.mpp.y) == (0.25, 0.5)


def bioformats2raw(folder: Path, version: str, listed: bool) -> Path:
    """Three images, the second of which is the slide."""
    path = folder / "slide.zarr"
    root = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    layout = {"bioformats2raw.layout": 3}
    root.attrs.update({"ome": {"version": version, **layout}} if version == "0.5" else layout)
    for series, image in enumerate((noise(90, 90), IMAGE, noise(60, 80))):
        write_ome_zarr(path / str(series), image, version, "tczyx", levels=2)
    if listed:
        meta = root.create_group("OME")
        series = {"series": ["0", "1", "2"]}
        meta.attrs.update({"ome": series} if version == "0.5" else series)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("listed", [True, False])
def test_of_the_images_of_bioformats2raw_the_largest_is_the_slide(tmp_path, version, listed):
    path = bioformats2raw(tmp_path, version, listed)
    np.testing.assert_array_equal(pixels_of(path), IMAGE)
    with open_slide(path) as slide:
        assert slide.info.associated_images == ("image 0", "image 2")
    np.testing.assert_array_equal(pixels_of(path / "2"), noise(60, 80))


def test_who_reads_it_is_part_of_the_basis(tmp_path):
    assert reader_basis(written(tmp_path)) == {"reader": "ome-zarr"}


def test_levels_that_show_something_else_are_left_out(tmp_path):
    path = written(tmp_path, levels=1)
    write_ome_zarr(tmp_path / "other.zarr", noise(50, 200), levels=1)
    shutil.copytree(tmp_path / "other.zarr" / "0", path / "1")
    change_json(
        path / "zarr.json",
        lambda content: content["attributes"]["ome"]["multiscales"][0]["datasets"].append(
            {"path": "1", "coordinateTransformations": []}
        ),
    )
    with open_slide(path) as slide:
        assert len(slide.info.levels) == 1


# --- damage ----------------------------------------------------------------------------------


def is_readable(path: Path, level: int, box: LevelBox) -> bool:
    with open_slide(path) as slide:
        try:
            slide.read(level, box)
        except UnreadableRegionError:
            return False
        return True


FIRST, SECOND = LevelBox(0, 0, 64, 64), LevelBox(64, 0, 64, 64)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_spoilt_chunk_is_unreadable_and_others_are_not(tmp_path, version):
    path = written(tmp_path, version=version)
    chunk = path / ("0/0/0/0" if version == "0.4" else "0/c/0/0/0")
    chunk.write_bytes(b"\xa5" * chunk.stat().st_size)
    assert not is_readable(path, 0, FIRST)
    assert is_readable(path, 0, SECOND)


@pytest.mark.parametrize("how", [{}, {"one_channel": True}, {"version": "0.4"}], ids=str)
def test_a_chunk_that_was_lost_is_unreadable(tmp_path, how):
    """The fill value, black, would be taken for what was scanned."""
    path = written(tmp_path, **how)
    (path / ("0/0/0/0" if "version" in how else "0/c/0/0/0")).unlink()
    assert not is_readable(path, 0, FIRST)
    assert is_readable(path, 0, SECOND)


@pytest.mark.parametrize("shard", [None, 128])
def test_a_chunk_that_was_never_written_has_the_fill_value(tmp_path, shard):
    """Its place is empty in the next level, too: nothing was scanned there."""
    image = IMAGE.copy()
    image[:128, :128] = 0
    path = write_ome_zarr(tmp_path / "slide.zarr", image, shard=shard)
    assert not (path / "0/c/0/0/0").exists()
    np.testing.assert_array_equal(pixels_of(path), image)


def test_without_a_coarser_level_a_chunk_that_is_not_there_counts_as_lost(tmp_path):
    image = IMAGE.copy()
    image[:64, :64] = 0
    path = write_ome_zarr(tmp_path / "slide.zarr", image, levels=1)
    assert not is_readable(path, 0, FIRST)
    assert is_readable(path, 0, SECOND)


def test_a_truncated_zip_file(tmp_path):
    path = tmp_path / "slide.ozx"
    path.write_bytes(b"PK\3\4 and then nothing")
    with pytest.raises(SlideError, match=r"slide\.ozx is damaged: File is not a zip file"):
        open_slide(path)


# --- what is refused -------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert not sentence.endswith(".")
    return sentence


def ome_of(content: dict) -> dict:
    return content["attributes"]["ome"]


def multiscale(content: dict) -> dict:
    return ome_of(content)["multiscales"][0]


ATTRIBUTES = {
    "it names '../other', a place outside": lambda c: multiscale(c)["datasets"][0].update(
        path="../other"
    ),
    "it names '/etc/x', a place outside": lambda c: multiscale(c)["datasets"][0].update(
        path="/etc/x"
    ),
    r"it names 'a\\\\b', a place outside": lambda c: multiscale(c)["datasets"][0].update(
        path="a\\b"
    ),
    "it names a place that is no text": lambda c: multiscale(c)["datasets"][0].update(path=7),
    "its level '9' is not there: copy it again, whole": lambda c: multiscale(c)["datasets"][
        0
    ].update(path="9"),
    "it lists a level twice": lambda c: multiscale(c)["datasets"][0].update(path="1"),
    "it should list 1 to 32 levels": lambda c: multiscale(c).update(
        datasets=multiscale(c)["datasets"] * 20
    ),
    "its list of levels is not that": lambda c: multiscale(c).update(datasets=["0"]),
    "its axes are c, y, q, not some of t, c, z, y, x": lambda c: multiscale(c)["axes"][2].update(
        name="q"
    ),
    "its axes are c, y, y, not some": lambda c: multiscale(c)["axes"][2].update(name="y"),
    "it does not say what its axes are": lambda c: multiscale(c).update(axes=["c", "y", "x"]),
    "it is of OME-NGFF 0.2, and 0.4 and 0.5 are read": lambda c: ome_of(c).update(version="0.2"),
    "its multiscales are not those of OME-NGFF": lambda c: ome_of(c).update(multiscales=[]),
    "hold 'affine', not one positive factor": lambda c: multiscale(c)["datasets"][0].update(
        coordinateTransformations=[{"type": "affine"}]
    ),
    "hold 'scale', not one positive factor": lambda c: multiscale(c)["datasets"][0].update(
        coordinateTransformations=[{"type": "scale", "scale": [1, -1, 1]}]
    ),
    "its channels are DAPI, FITC, Cy3, as those of fluorescence": lambda c: ome_of(c).update(
        omero=rgb_channels(["0000FF", "00FF00", "FFFF00"], ["DAPI", "FITC", "Cy3"])
    ),
    "it is a plate of wells: name the folder of one": lambda c: c["attributes"].update(
        ome={"plate": {}}
    ),
    "is laid out by bioformats2raw and has no image": lambda c: c["attributes"].update(
        ome={"bioformats2raw.layout": 3}
    ),
}


@pytest.mark.parametrize(("words", "change"), ATTRIBUTES.items(), ids=list(ATTRIBUTES))
def test_attributes_that_cannot_be(tmp_path, words, change):
    path = written(tmp_path, levels=2)
    if "laid out" in words:
        shutil.rmtree(path / "0")
    change_json(path / "zarr.json", change)
    assert words.replace("\\\\", "\\") in refused(path)


def codecs(*names: str):
    return lambda c: c.update(codecs=[{"name": name, "configuration": {}} for name in names])


ARRAYS = {
    "its values are float32: save colours as 8-bit RGB": lambda c: c.update(data_type="float32"),
    "its chunks have 3000 MB, more than 134": lambda c: c["chunk_grid"]["configuration"].update(
        chunk_shape=[3, 100_000, 10_000]
    ),
    "its chunks have no size": lambda c: c["chunk_grid"]["configuration"].update(
        chunk_shape=[3, -1, 64]
    ),
    "its chunks are packed by 'vlen-utf8'": codecs("vlen-utf8"),
    "its chunks are packed by 'gzip', where one": codecs("bytes", "zstd", "gzip"),
    "level '0' has the shape (3, 1000000000000, 423)": lambda c: c.update(
        shape=[3, 10**12, 423]
    ),
    "level '0' has the shape (3, 301, 0)": lambda c: c.update(shape=[3, 301, 0]),
    "level '0' is not that of Zarr": lambda c: c.update(shape="large"),
    "its list of codecs is not that of Zarr": lambda c: c.update(codecs="zstd"),
    "it has 4 channel(s), where the three of RGB are wanted": lambda c: c.update(
        shape=[4, 301, 423]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("words", "change"), ARRAYS.items(), ids=list(ARRAYS))
def test_arrays_that_cannot_be(tmp_path, words, change):
    path = written(tmp_path, levels=1)
    change_json(path / "0" / "zarr.json", change)
    assert words in refused(path)


SHARDS = {
    "its shards are no whole number of chunks": lambda c, s: s.update(chunk_shape=[3, 60, 64]),
    "its shards have 262147 chunks, more than 262144": lambda c, s: (
        c["chunk_grid"]["configuration"].update(chunk_shape=[3, 262147, 64]),
        s.update(chunk_shape=[3, 1, 64]),
    ),
    "the index of its shards is packed": lambda c, s: s["index_codecs"].append({"name": "gzip"}),
    "the index of its shards is at their start": lambda c, s: s.update(index_location="start"),
    "its shards are packed as a whole": lambda c, s: c["codecs"].append({"name": "zstd"}),
    "its chunks are packed by 'sharding_indexed'": lambda c, s: s.update(codecs=c["codecs"][:1]),
}


@pytest.mark.parametrize(("words", "change"), SHARDS.items(), ids=list(SHARDS))
def test_shards_that_cannot_be(tmp_path, words, change):
    path = written(tmp_path, levels=1, shard=128)

    def change_both(content: dict) -> None:
        content["codecs"] = json.loads(json.dumps(content["codecs"]))
        change(content, content["codecs"][0]["configuration"])

    def without_circle(content: dict) -> None:
        change_both(content)
        settings = content["codecs"][0]["configuration"]
        if settings["codecs"] and settings["codecs"][0].get("name") == "sharding_indexed":
            settings["codecs"] = [{"name": "sharding_indexed", "configuration": {}}]

    change_json(path / "0" / "zarr.json", without_circle)
    assert words in refused(path)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '"' + "x" * (1 << 24) + '"', "\xff"])
def test_metadata_that_are_no_json(tmp_path, text):
    path = written(tmp_path)
    (path / "zarr.json").write_text(text, "latin-1")
    assert refused(path).startswith("slide.zarr cannot be read: zarr.json ")


class Canary:
    """Says so when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("field", ["filters", "compressor"])
def test_a_pickle_is_never_run(tmp_path, field):
    path = written(tmp_path, version="0.4", levels=1)
    codec = {"id": "pickle", "protocol": 5}
    change_json(
        path / "0" / ".zarray",
        lambda content: content.update({field: [codec] if field == "filters" else codec}),
    )
    for chunk in (path / "0").rglob("[0-9]*"):
        if chunk.is_file():
            chunk.write_bytes(pickle.dumps(Canary(tmp_path / "was run")))
    assert "its chunks are packed by 'pickle'" in refused(path)
    assert not (tmp_path / "was run").exists()


@pytest.mark.skipif(os.name == "nt", reason="makes symbolic links")
@pytest.mark.parametrize("what", ["0/c/0/0/0", "0/c/0", "0", "zarr.json"])
def test_no_symbolic_link_is_followed(tmp_path, what):
    path = written(tmp_path)
    place = path / what
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    if what.startswith("0/c"):
        with (
            open_slide(path) as slide,
            pytest.raises(UnreadableRegionError, match="through a symbolic link"),
        ):
            slide.read(0, FIRST)
    else:
        assert "leads through a symbolic link, and none is followed" in refused(path)


@pytest.mark.skipif(os.name == "nt", reason="makes symbolic links")
def test_the_folder_itself_may_be_a_link(tmp_path):
    path = written(tmp_path)
    (tmp_path / "link.zarr").symlink_to(path)
    np.testing.assert_array_equal(pixels_of(tmp_path / "link.zarr"), IMAGE)


def test_zarr_that_is_no_slide_is_no_slide(tmp_path):
    zarr.create_group(tmp_path / "table.zarr", attributes={"anndata": 1})
    labels = written(tmp_path)
    change_json(labels / "zarr.json", lambda content: ome_of(content).update({"image-label": {}}))
    assert not is_slide_folder(tmp_path / "table.zarr")
    assert not is_slide_folder(labels)
    assert not is_slide_folder(tmp_path)


def test_what_changes_in_it_changes_its_fingerprint(tmp_path):
    path = written(tmp_path)
    first = fingerprint(path)
    assert fingerprint(Path(shutil.copytree(path, tmp_path / "copy.zarr"))) == first
    (path / "2/c/0/0/0").unlink()
    assert fingerprint(path) != first


ODD = (None, True, -1, 0, 1.5, 10**30, "x", [], [[]], {}, [None] * 3)


def places_in(content: object, place: tuple = ()) -> list[tuple]:
    """Every place in a JSON value, as the keys that lead there."""
    items = content.items() if isinstance(content, dict) else ()
    items = enumerate(content) if isinstance(content, list) else items
    return [place] * bool(place) + [
        deeper for key, value in items for deeper in places_in(value, (*place, key))
    ]


@pytest.mark.parametrize(("version", "shard"), [("0.4", None), ("0.5", None), ("0.5", 64)])
@pytest.mark.parametrize("file", ["attributes", "array"])
def test_whatever_metadata_say_it_is_read_or_refused_in_a_sentence(tmp_path, file, version, shard):
    omero = rgb_channels(["FF0000", "00FF00", "0000FF"], "RGB") | {"rdefs": {"defaultZ": 0}}
    image = noise(80, 70)
    path = write_ome_zarr(
        tmp_path / "slide.zarr",
        image,
        version,
        "czyx",
        levels=1,
        shard=shard,
        omero=omero,
        chunk=32,
    )
    names = {"0.5": ("zarr.json", "0/zarr.json"), "0.4": (".zattrs", "0/.zarray")}[version]
    described = path / names[file == "array"]
    text = described.read_text("utf-8")
    refusals: list[str] = []
    for *way, last in places_in(json.loads(text)):
        for odd in ODD:
            content = json.loads(text)
            inner = content
            for key in way:
                inner = inner[key]
            inner[last] = odd
            described.write_text(json.dumps(content), "utf-8")
            try:
                with open_slide(path) as slide:
                    slide.read(0, LevelBox(0, 0, 70, 80))
            except (SlideError, UnreadableRegionError) as error:
                refusals.append(str(error))
    assert not [sentence for sentence in refusals if "cannot be opened by" in sentence]
    assert len(refusals) > 50


# --- chunks that are larger than they say ----------------------------------------------------


@pytest.mark.parametrize("packer", ["zstd", "zlib", "gzip", "lz4", "blosc"])
def test_a_chunk_that_would_grow_beyond_measure_is_not_unpacked(tmp_path, monkeypatch, packer):
    path = written(tmp_path, version="0.4", levels=1, compressors={"id": packer})
    monkeypatch.setattr(unpacking, "LARGEST_UNPACKED_BYTES", 1 << 20)
    np.testing.assert_array_equal(pixels_of(path), IMAGE)
    (path / "0/0/0/0").write_bytes(get_codec({"id": packer}).encode(bytes(1 << 21)))
    with open_slide(path) as slide, pytest.raises(UnreadableRegionError, match="would grow"):
        slide.read(0, FIRST)
    assert is_readable(path, 0, SECOND)


@pytest.mark.parametrize("how", [{"shard": 128}, {"shard": 64}, {"shard": 64, "one_channel": True}])
def test_nor_one_in_a_shard(tmp_path, monkeypatch, how):
    path = written(tmp_path, levels=1, **how)
    np.testing.assert_array_equal(pixels_of(path), IMAGE)
    monkeypatch.setattr(unpacking, "LARGEST_UNPACKED_BYTES", 1 << 10)
    with open_slide(path) as slide, pytest.raises(UnreadableRegionError, match="would grow"):
        slide.read(0, FIRST)


def zstd_frame(blocks: int) -> bytes:
    """A frame that does not say how long it is, of blocks of 128 KiB of one byte."""
    length = 1 << 17
    header = (length << 3 | 1 << 1).to_bytes(3, "little") + b"a"
    last = (length << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"a"
    return bytes.fromhex("28b52ffd") + b"\x00\x58" + header * (blocks - 1) + last


def test_a_frame_of_zstandard_that_does_not_say_how_long_it_is():
    assert get_codec({"id": "zstd"}).decode(zstd_frame(3)) == b"a" * (3 << 17)
    packing = unpacking.Packing("zstd")
    packing.check_chunk(zstd_frame(4096))
    for bomb in (zstd_frame(4097), zstd_frame(2049) * 2, b"\x50\x2a\x4d\x18\x00\x00\x00\x00"):
        with pytest.raises(ValueError, match="would grow"):
            packing.check_chunk(bomb)


# --- what it needs ---------------------------------------------------------------------------


def test_without_zarr_it_says_what_to_install(tmp_path, monkeypatch):
    path = written(tmp_path)
    monkeypatch.delitem(sys.modules, "wsi_engine.slide.ome_zarr.ome_zarr_slide")
    monkeypatch.setitem(sys.modules, "zarr", None)
    assert is_slide_folder(path)
    assert re.search(r"zarr cannot be imported .*: pip install .*ome-zarr", refused(path))


def test_other_slides_do_not_load_zarr(tmp_path):
    write_pyramid(tmp_path / "slide.tif", IMAGE, 0.25)
    script = (
        "import sys; from wsi_engine.slide.opening import open_slide; open_slide('slide.tif'); "
        "sys.exit('zarr' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False).returncode == 0
