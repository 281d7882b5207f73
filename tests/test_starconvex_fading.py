"""Dark slides are shown paler to the default network, pale ones as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wsi_engine.models.registry import find_model
from wsi_engine.models.starconvex import shipped
from wsi_engine.models.starconvex.fading import FEWEST_PIXELS, LEAST_FACTOR, faded, fading_of
from wsi_engine.models.starconvex.model import load_starconvex, load_weights
from wsi_engine.models.starconvex.spec import LARGEST_DENSITY, WEIGHTS

ALL_SHADES = np.arange(256, dtype=np.uint8)


def fields(density: float, tissue_px: int = 2000) -> np.ndarray:
    """Two fields of glass with tissue of one density in all channels."""
    pixels = np.full((2, 64, 64, 3), 245, np.uint8)
    pixels.reshape(-1, 3)[:tissue_px] = round(256 * 10**-density) - 1
    return pixels


@pytest.mark.parametrize("density", [0.3, 0.4, 0.5])
def test_the_tissue_of_a_dark_slide_gets_the_largest_density(density) -> None:
    dark = fields(density)
    factor = fading_of(dark, 0.25)
    assert factor == pytest.approx(0.25 / density, abs=0.01)
    assert fading_of(faded(dark, factor), 0.25) == pytest.approx(1, abs=0.02)


def test_a_slide_that_is_no_darker_stays_as_it_is() -> None:
    pale = fields(0.2)
    assert fading_of(pale, 0.25) == 1
    assert faded(pale, 1.0) is pale


def test_glass_and_a_few_dark_specks_say_nothing() -> None:
    assert fading_of(fields(1.0, tissue_px=FEWEST_PIXELS - 1), 0.25) == 1
    assert fading_of(fields(1.0, tissue_px=FEWEST_PIXELS), 0.25) == LEAST_FACTOR


def test_shades_keep_their_order_and_white_stays_white() -> None:
    shades = faded(ALL_SHADES, 0.6).astype(int)
    assert (np.diff(shades) >= 0).all()
    assert (shades >= ALL_SHADES).all()
    assert shades[255] == 255
    assert shades[0] > 0


@pytest.mark.parametrize("load", [find_model("starconvex").load, load_starconvex])
def test_the_network_sees_the_whole_slide_as_pale_as_its_fields_say(load) -> None:
    model, dark = load(None), fields(0.5)
    calibrated = model.calibrate(dark)
    assert calibrated.settings()["fading"] == fading_of(dark, LARGEST_DENSITY) < 1
    tile = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    wanted = model.maps(faded(tile, calibrated.fading))
    np.testing.assert_array_equal(calibrated.maps(tile), wanted)
    assert not np.array_equal(calibrated.maps(tile), model.maps(tile))


def test_weights_of_ones_own_see_slides_as_they_are() -> None:
    model = load_weights(WEIGHTS)
    assert model.calibrate(fields(0.5)) is model
    assert model.settings() == {"threshold": model.threshold}


def test_a_gpu_gets_what_was_calibrated(monkeypatch) -> None:
    trained = load_starconvex()
    monkeypatch.setattr(shipped, "_by_torch", lambda which: trained)
    monkeypatch.setattr(type(trained), "to", lambda self, device: self)
    model = find_model("starconvex").load(None).calibrate(fields(0.5))
    assert isinstance(model, shipped.QuantisedStarConvex)
    assert model.to("cuda:0") == replace(trained, fading=model.fading)
