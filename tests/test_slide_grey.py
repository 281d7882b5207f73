"""A slide of grey has no tissue that could be told by its colours, and it is said why."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

import wsi_engine
from tests.support.slides import ellipse, glass, paint_tissue
from wsi_engine.cli import main
from wsi_engine.errors import RegionError, SlideError
from wsi_engine.slide.pyramid import write_pyramid


@pytest.mark.parametrize("compression", [None, "jpeg"])
def test_a_grey_slide_is_named_as_such(tmp_path, capsys, compression):
    """A reader makes equal channels of grey, in which no tissue is found."""
    image = glass(600, 600)
    paint_tissue(image, ellipse(image, (300, 300), (200, 150)))
    grey = image.mean(axis=2).astype(np.uint8)
    if compression is not None:
        encoded = io.BytesIO()
        Image.fromarray(np.dstack([grey] * 3)).save(encoded, "JPEG", quality=60)
        pixels = np.asarray(Image.open(encoded).convert("RGB"))
    else:
        pixels = np.dstack([grey] * 3)
    write_pyramid(tmp_path / "grey.tif", pixels, 0.5)
    with pytest.raises(SlideError, match=r"grey\.tif is not supported: it is grey"):
        wsi_engine.run(tmp_path / "grey.tif", tmp_path, model="watershed")
    with pytest.raises(SystemExit):
        main(["info", str(tmp_path / "grey.tif")])
    assert "grey.tif: it is grey" in " ".join(capsys.readouterr().err.split())
    unsearched = wsi_engine.run(tmp_path / "grey.tif", tmp_path, model="watershed", tissue=False)
    flags = json.loads((unsearched.folder / "quality.json").read_text(encoding="utf-8"))["flags"]
    (stain,) = [flag for flag in flags if flag["name"] == "stain"]
    assert (stain["level"], "grey" in stain["sentence"]) == ("bad", True)


@pytest.mark.parametrize("tint", [(242, 240, 243), (235, 235, 235)])
def test_bare_glass_with_black_borders_is_not_grey(tmp_path, tint):
    image = glass(600, 600)
    image[:] = tint
    image[:, :90] = 12
    write_pyramid(tmp_path / "empty.tif", image, 0.5)
    with pytest.raises(RegionError, match="no tissue found"):
        wsi_engine.run(tmp_path / "empty.tif", tmp_path, model="watershed")
