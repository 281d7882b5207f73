"""What every method owes the engine: the same nuclei for every tiling, the same bytes always."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wsi_engine
from tests.support.dense_maps import darkness_model
from tests.support.drawn_boxes import drawn_mask_rcnn
from tests.support.drawn_hovernet import drawn_hovernet
from tests.support.foreign import onnx_card, torchscript_card
from tests.test_micronet import stand_in
from wsi_engine.evaluation.segmentations import polygon_overlaps
from wsi_engine.models.augmented import augmented
from wsi_engine.models.ensemble import ensemble
from wsi_engine.models.normalised import Normalised
from wsi_engine.models.protocol import Model
from wsi_engine.models.registry import DENSE, ModelEntry, available_models, find_model
from wsi_engine.models.threshold import Threshold
from wsi_engine.models.watershed import Watershed
from wsi_engine.phantom import lay_out_tissue, render_tissue, scatter_nuclei
from wsi_engine.slide.normalisation.looks import look_of
from wsi_engine.slide.pyramid import write_pyramid

MPP = 0.5
SHAPE = (520, 900)
QUICK = {"tissue": False, "measure": (), "regions": False, "report": False, "compile": "never"}


def shipped(name: str) -> Callable[[], Model]:
    return lambda: find_model(name).load(None)


def drawn(name: str) -> Callable[[], Model]:
    return lambda: darkness_model(next(m for m in DENSE if m.spec.name == name))


def ensemble_of_three() -> Model:
    return ensemble([Watershed(), Threshold(kind="local"), drawn("unet")()])


def normalised_watershed() -> Model:
    reference = np.random.default_rng(0).integers(60, 230, (64, 64, 3), np.uint8)
    return Normalised(Watershed(), "reinhard", look_of(reference, "reinhard"))


def foreign(make: Callable[[Path], Path]) -> Callable[[], Model]:
    def load() -> Model:
        with tempfile.TemporaryDirectory() as folder:
            return find_model(str(make(Path(folder)))).load(None)

    return load


MODELS: dict[str, Callable[[], Model]] = {
    # What the package brings, and what has to be downloaded or trained first by a stand-in.
    **{name: shipped(name) for name, e in available_models().items() if e.spec.embedded},
    **{f"{m.spec.name} (drawn)": drawn(m.spec.name) for m in DENSE},
    "mask-rcnn (drawn)": drawn_mask_rcnn,
    "fused views": lambda: augmented(Watershed(), 4),
    "averaged views": lambda: augmented(drawn("contour-aware")(), 4),
    "ensemble": ensemble_of_three,
    "normalised": normalised_watershed,
    "onnx by a card": foreign(onnx_card),
    "torchscript by a card": foreign(torchscript_card),
    "micronet (drawn)": stand_in,
    "hovernet (drawn)": drawn_hovernet,
}
EVERY_MODEL = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated tissue with glands, stroma and crowds, at 0.5 µm/px."""
    rng = np.random.default_rng(11)
    layout = lay_out_tissue(SHAPE, MPP, rng)
    pixels = render_tissue(SHAPE, scatter_nuclei(layout, rng), MPP, rng, layout)
    path = tmp_path_factory.mktemp("conformance") / "tissue.tif"
    write_pyramid(path, pixels, MPP)
    return path


@pytest.fixture
def run(slide: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a model, whatever its name, on the slide."""

    def run_model(make: Callable[[], Model], folder: Path | None = None, **settings: object):
        model = make()
        entry = ModelEntry(replace(model.spec, name="watershed"), lambda weights: model)
        monkeypatch.setattr("wsi_engine.models.around.find_model", lambda name: entry)
        return wsi_engine.run(slide, folder, model="watershed", **QUICK, **settings)

    return run_model


@EVERY_MODEL
def test_the_tiling_does_not_change_the_nuclei(run, make):
    whole = run(make, tile_size=1024).nuclei.polygons
    assert len(whole) > 80
    for tile_size in (256, 512):
        tiled = run(make, tile_size=tile_size).nuclei.polygons
        # 0.1 %, and 0.2 % where a clump can outgrow the halo, of some hundreds: none, or one.
        assert abs(len(tiled) - len(whole)) <= 1
        same = int((polygon_overlaps(whole, tiled).iou >= 0.98).sum())
        assert same >= len(whole) - 1


@EVERY_MODEL
def test_workers_and_batches_do_not_change_a_byte(run, make, tmp_path: Path):
    def written(workers: int, batch_size: int) -> bytes:
        folder = tmp_path / f"{workers} {batch_size}"
        result = run(make, folder, tile_size=256, workers=workers, batch_size=batch_size)
        return (result.folder / "nuclei.geojson.gz").read_bytes()

    assert written(workers=1, batch_size=1) == written(workers=2, batch_size=4)
