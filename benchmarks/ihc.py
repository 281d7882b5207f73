"""What the default network finds on H-DAB, with haematoxylin and DAB shown apart and without.

    python benchmarks/ihc.py [--pictures FOLDER] [--images FOLDER...]

Tissue is drawn in which every nucleus is known: with DAB in two fifths of the nuclei (which then
take a quarter of the haematoxylin), or in the cytoplasm of glands. The image of scikit-image is
real, and without truth: there nuclei are counted. ``--images`` asks of folders of H&E images which
of them pass for DAB.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import shapely
import skimage.data
from PIL import Image, ImageDraw

from wsi_engine.evaluation.images import is_image, read_image
from wsi_engine.models.registry import find_model
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.phantom import lay_out_tissue, render_immunostain, scatter_nuclei
from wsi_engine.slide.dab import shows_dab, views_of

MPP, SIDE, MARGIN = 0.5, 768, 64
SEEDS = range(1, 7)
OUTLINE = (0, 220, 0)


def drawn(where: str, seed: int) -> tuple[np.ndarray, Polygons, np.ndarray]:
    """Return an image, its nuclei, and which of them DAB is in, or around."""
    rng = np.random.default_rng(seed)
    tissue = lay_out_tissue((SIDE, SIDE), MPP, rng)
    nuclei = scatter_nuclei(tissue, rng)
    positive = rng.random(len(nuclei)) < 0.4
    dab = np.where(positive, rng.uniform(0.25, 1.1, len(nuclei)), 0.0)
    if where == "cytoplasm":
        positive, dab = nuclei.kind == 0, np.full(len(nuclei), 0.5)
    image = render_immunostain((SIDE, SIDE), nuclei, dab, MPP, rng, tissue, where)
    return image, shapely.buffer(nuclei.polygons(), 0), positive


def found_in(image: np.ndarray, split: str) -> Polygons:
    """Return the outlines of the nuclei whose centres lie in an image."""
    padded = np.pad(image, ((MARGIN,) * 2, (MARGIN,) * 2, (0, 0)), mode="symmetric")[None]
    model = find_model("starconvex").load(None).to("cpu").with_dab(split).calibrate(padded)
    found = model.decode(model.maps(padded)[0])
    rings = np.split(found.xy - MARGIN, found.offsets[1:-1])
    polygons = shapely.buffer(np.array([shapely.Polygon(ring) for ring in rings]), 0)
    x, y = (of(shapely.centroid(polygons)) for of in (shapely.get_x, shapely.get_y))
    height, width = image.shape[:2]
    return polygons[(x >= 0) & (y >= 0) & (x < width) & (y < height)]


def are_met(truth: Polygons, found: Polygons) -> np.ndarray:
    """Tell which true nuclei have a found one with an IoU of at least one half."""
    left, right = shapely.STRtree(found).query(truth, "intersects")
    shared = shapely.area(shapely.intersection(truth[left], found[right]))
    iou = shared / (shapely.area(truth[left]) + shapely.area(found[right]) - shared)
    return np.isin(np.arange(len(truth)), left[iou >= 0.5])


def row_of(where: str, split: str) -> str:
    """Return what is found in all fields."""
    hits, positives, count = [], [], 0
    for seed in SEEDS:
        image, truth, positive = drawn(where, seed)
        found = found_in(image, split)
        hits.append(are_met(truth, found))
        positives.append(positive)
        count += len(found)
    hit, positive = np.concatenate(hits), np.concatenate(positives)
    f1 = 2 * hit.sum() / (len(hit) + count)
    cells = (f1, hit.sum() / count, hit.mean(), hit[positive].mean(), hit[~positive].mean())
    return f"| {where} | {split} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |"


def picture(image: np.ndarray, polygons: Polygons, times: int = 1) -> Image.Image:
    """Draw outlines over an image."""
    shown = Image.fromarray(image).resize((image.shape[1] * times, image.shape[0] * times))
    draw = ImageDraw.Draw(shown)
    for polygon in shapely.get_parts(polygons):
        ring = np.asarray(polygon.exterior.coords) * times
        draw.line([tuple(point) for point in ring], fill=OUTLINE, width=times)
    return shown


def write_pictures(folder: Path) -> None:
    """Write what is found before and after, side by side: real above, drawn below."""
    rows = [skimage.data.immunohistochemistry()[:384], drawn("nuclei", 1)[0][:384, 256:]]
    panels = [[picture(row, found_in(row, s)) for s in ("never", "auto")] for row in rows]
    sheet = Image.new("RGB", (1028, 772), "white")
    for k, pair in enumerate(panels):
        for j, panel in enumerate(pair):
            sheet.paste(panel, (516 * j, 388 * k))
    sheet.save(folder / "ihc.jpg", quality=68)
    views = [Image.fromarray(view[:384]) for view in views_of(rows[0])]
    sheet = Image.new("RGB", (1028, 384), "white")
    for j, view in enumerate(views):
        sheet.paste(view, (516 * j, 0))
    sheet.save(folder / "ihc_views.jpg", quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    print("| DAB in | split_dab | F1 | precision | recall | recall, stained | recall, others |")
    print("|" + "---|" * 7)
    for where in ("nuclei", "cytoplasm"):
        for split in ("never", "auto"):
            print(row_of(where, split), flush=True)
    image = skimage.data.immunohistochemistry()
    for split in ("never", "auto"):
        print(f"immunohistochemistry, {split}: {len(found_in(image, split))} nuclei")
    for folder in options.images:
        paths = sorted(path for path in folder.iterdir() if is_image(path))
        brown = [path.name for path in paths if shows_dab(read_image(path)[None])]
        print(f"{folder}: {len(brown)} of {len(paths)} pass for DAB {brown}")
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)
        write_pictures(options.pictures)


if __name__ == "__main__":
    main()
