"""All geometry that leaves the engine is where QuPath shows it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openslide
import shapely

import wsi_engine
from tests.support.slides import write_leica
from wsi_engine.evaluation.segmentations import polygon_overlaps
from wsi_engine.phantom import Kind, make_nuclei, render_tissue
from wsi_engine.qupath.reader import read_objects
from wsi_engine.slide.pyramid import write_pyramid

MPP = 0.25
SIDE = 768


def test_bounds_are_the_origin(tmp_path: Path):
    rng = np.random.default_rng(5)
    centres = np.array([[100.5, 120.0], [400.0, 300.25], [650.0, 640.0], [200.0, 600.0]])
    nuclei = make_nuclei(centres, MPP, rng, Kind.LYMPHOCYTE)
    image = render_tissue((SIDE, SIDE), nuclei, MPP, rng)
    plain, bounded = tmp_path / "plain.tif", tmp_path / "bounded.scn"
    write_pyramid(plain, image, MPP, levels=2)
    write_leica(bounded, image, offset_px=(1000, 512), mpp=MPP)
    with openslide.OpenSlide(bounded) as slide:
        assert slide.properties["openslide.bounds-x"] == "1000"

    expected = wsi_engine.run(plain, model="watershed", tissue=False, tile_size=128)
    result = wsi_engine.run(bounded, tmp_path, model="watershed", tissue=False, tile_size=128)

    assert result.folder is not None
    found = read_objects(result.folder / "nuclei.geojson.gz")
    polygons = np.array([item.geometry for item in found], object)
    true = polygon_overlaps(nuclei.polygons(), polygons).iou
    assert len(polygons) == (true > 0.5).sum() == len(centres)
    same = polygon_overlaps(expected.nuclei.polygons, polygons).iou
    assert (same > 0.95).sum() == len(centres)


def test_tissue_and_roi_are_in_the_same_frame(tmp_path: Path):
    rng = np.random.default_rng(6)
    field = make_nuclei(np.array([[384.0, 384.0]]), MPP, rng, Kind.LYMPHOCYTE)
    image = np.full((2 * SIDE, 2 * SIDE, 3), 242, np.uint8)
    image[:SIDE, :SIDE] = render_tissue((SIDE, SIDE), field, MPP, rng)
    slide = tmp_path / "bounded.scn"
    write_leica(slide, image, offset_px=(2000, 1000), mpp=MPP)
    roi = tmp_path / "roi.geojson"
    roi.write_text(json.dumps(shapely.geometry.mapping(shapely.box(300, 300, 470, 470))))

    result = wsi_engine.run(slide, tmp_path, model="watershed", roi=roi)

    assert result.folder is not None
    (tissue,) = read_objects(result.folder / "tissue.geojson")
    overlap = tissue.geometry.intersection(shapely.box(0, 0, SIDE, SIDE)).area
    assert overlap > 0.95 * SIDE**2
    assert overlap > 0.8 * tissue.geometry.area
    (nucleus,) = result.nuclei.polygons
    assert nucleus.centroid.distance(shapely.Point(384, 384)) < 2
