"""Pixel size: taken from the file or the user, checked, and never guessed."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.support.slides import CMU, TCGA_CR, TCGA_V5, noise, real_slide, write_aperio
from wsi_engine.errors import ResolutionError, SlideError
from wsi_engine.slide.frames import Level0Box, Mpp
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.protocol import Level, SlideInfo
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.slide.resolution import mpp_from_properties, resolution_warnings, with_resolution


def info(mpp=None, power=None, source="the file states none"):
    return SlideInfo(
        path=Path("folder") / "case 7.svs",
        vendor="aperio",
        levels=(Level(0, 1000, 800, 1.0),),
        bounds=Level0Box(0, 0, 1000, 800),
        mpp=Mpp(mpp, mpp) if mpp else None,
        mpp_source=source,
        objective_power=power,
        focal_planes=1,
        associated_images=(),
    )


@pytest.mark.parametrize(
    ("x", "y", "mpp"),
    [
        ("0.25", "0.25", Mpp(0.25, 0.25)),
        ("0.2527", "0.2531", Mpp(0.2527, 0.2531)),
        ("0.05", "2", Mpp(0.05, 2.0)),
        (None, None, "states none"),
        ("0.25", None, "states none"),
        (None, "0.25", "states none"),
        ("", "", "states none"),
        ("unknown", "0.25", "states none"),
        ("0", "0", "states none"),
        ("-0.25", "-0.25", "states none"),
        ("nan", "nan", "states none"),
        ("inf", "inf", "states none"),
        # 72 dpi, 96 dpi, one pixel per mm, nanometres.
        ("352.77777", "352.77777", "352.778 x 352.778 µm"),
        ("264.58333", "264.58333", "264.583"),
        ("1000", "1000", "1000"),
        ("0.00025", "0.00025", "0.00025"),
        ("0.25", "352.8", "352.8"),
    ],
)
def test_what_the_file_states(x, y, mpp):
    properties = {"openslide.mpp-x": x, "openslide.mpp-y": y}
    found, source = mpp_from_properties({k: v for k, v in properties.items() if v is not None})
    if isinstance(mpp, Mpp):
        assert found == mpp
    else:
        assert found is None
        assert mpp in source


@pytest.mark.parametrize("stated", [0.0, -1.0, math.nan, math.inf, -math.inf, 1000.0, 0.049, 2.01])
@pytest.mark.parametrize("in_file", [None, 0.25])
def test_absurd_pixel_sizes_of_the_user(stated, in_file):
    with pytest.raises(ResolutionError, match=r"--mpp .* µm per full-resolution pixel"):
        with_resolution(info(in_file), stated)


@pytest.mark.parametrize(
    ("in_file", "stated", "used", "source"),
    [
        (0.25, None, 0.25, "openslide.mpp-x/-y"),
        (None, 0.25, 0.25, "--mpp"),
        (0.5, 0.25, 0.25, "--mpp"),
        (0.5, 0.05, 0.05, "--mpp"),
        (0.5, 2.0, 2.0, "--mpp"),
    ],
)
def test_the_users_pixel_size_wins(in_file, stated, used, source):
    facts = info(in_file, source="openslide.mpp-x/-y")
    got = with_resolution(facts, stated)
    assert (got.mpp, got.mpp_source) == (Mpp(used, used), source)
    # Nothing else is touched, and what the file said is kept.
    assert (got.path, got.levels, got.bounds) == (facts.path, facts.levels, facts.bounds)
    assert facts.mpp_source == "openslide.mpp-x/-y"


def test_without_any_pixel_size_the_slide_and_the_way_out_are_named():
    with pytest.raises(ResolutionError, match=r"case 7\.svs: .*states none.*--mpp 0\.25") as caught:
        with_resolution(info(), None)
    assert isinstance(caught.value, SlideError)


@pytest.mark.parametrize(
    ("mpp", "power", "stated", "doubt"),
    [
        # What scanners really do: 40x is 0.16 to 0.27 µm, 20x is 0.33 to 0.55 µm.
        (0.25, 40, None, None),
        (0.2325, 40, None, None),
        (0.1725, 40, None, None),
        (0.499, 20, None, None),
        (0.3452, 20, None, None),
        (1.0, 10, None, None),
        (0.25, None, None, None),
        (0.25, 0, None, None),
        (0.25, -1, None, None),
        (None, 40, None, None),
        # A 40x scan saved at half size, or a wrong tag.
        (0.5, 40, None, r"0\.5 µm .* 40x .*0\.25 µm.*--mpp"),
        (0.25, 20, None, r"0\.25 µm .* 20x .*0\.5 µm.*--mpp"),
        (1.0, 40, None, r"1 µm .* 40x"),
        # Pixels per inch and per centimetre exchanged; with an objective, that decides.
        (0.635, None, None, r"0\.635 µm .* 2\.54 times off the usual 0\.25 µm.*--mpp"),
        (0.0984, None, None, r"0\.0984 µm .* 2\.54 times off the usual 0\.25 µm.*--mpp"),
        (1.27, None, None, r"usual 0\.5 µm"),
        (0.1725, None, None, None),
        (0.22, None, None, None),
        (0.3452, None, None, None),
        (0.635, 20, None, None),
        # The user knows better, but is told what is replaced.
        (0.5, 40, 0.25, r"--mpp 0\.25 replaces the file's 0\.5 µm"),
        (0.25, 40, 0.26, None),
        (0.25, 40, 0.263, r"replaces the file's 0\.25 µm"),
        (None, 40, 0.25, None),
        (None, 40, 0.5, None),
    ],
)
def test_doubts(mpp, power, stated, doubt):
    warnings = resolution_warnings(info(mpp, power), stated)
    if doubt is None:
        assert warnings == []
    else:
        [said] = warnings
        assert re.search(doubt, said), said


@pytest.mark.parametrize(
    ("name", "mpp"), [(CMU, 0.499), (TCGA_V5, 0.2485), (TCGA_CR, "the file states none")]
)
def test_real_slides(name, mpp):
    with open_slide(real_slide(name)) as slide:
        facts = slide.info
    if isinstance(mpp, str):
        assert (facts.mpp, facts.mpp_source) == (None, mpp)
    else:
        assert facts.mpp.mean == pytest.approx(mpp)
        assert resolution_warnings(facts, None) == []


def test_a_printers_resolution_is_no_pixel_size(tmp_path):
    tifffile.imwrite(
        tmp_path / "print.tif", noise(64, 64), tile=(64, 64), photometric="rgb",
        resolution=(72, 72), resolutionunit="INCH", metadata=None,
    )  # fmt: skip
    with open_slide(tmp_path / "print.tif") as slide:
        assert slide.info.vendor == "generic-tiff"
        with pytest.raises(ResolutionError, match=r"352\.778 x 352\.778 µm, which no slide"):
            with_resolution(slide.info, None)
        assert with_resolution(slide.info, 0.5).mpp == Mpp(0.5, 0.5)


@pytest.mark.parametrize(
    ("mpp", "power", "doubtful"),
    [
        ("0.2520", "40", False),
        ("0.5040", "40", True),
        ("0.2520", None, False),
        ("0.2520", "0", False),
        ("0.2520", "-20", False),
        ("0.2520", "unknown", False),
        (None, "40", False),
        ("nonsense", "40", False),
    ],
)
def test_an_aperio_slide_that_contradicts_itself(tmp_path, mpp, power, doubtful):
    write_aperio(tmp_path / "slide.svs", noise(64, 64), mpp, power)
    with open_slide(tmp_path / "slide.svs") as slide:
        assert slide.info.vendor == "aperio"
        assert (slide.info.mpp is None) == (mpp is None or not mpp[0].isdigit())
        assert bool(resolution_warnings(slide.info, None)) == doubtful


def test_pixels_need_not_be_square(tmp_path):
    write_pyramid(tmp_path / "slide.tif", np.zeros((64, 64, 3), np.uint8), Mpp(0.25, 0.5))
    with open_slide(tmp_path / "slide.tif") as slide:
        assert with_resolution(slide.info, None).mpp == Mpp(0.25, 0.5)
