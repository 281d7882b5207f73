"""Count what a star-convex network takes for nuclei in blood that holds none.

    python benchmarks/model_blood.py [WEIGHTS...] [--pictures FOLDER]

A smear of single red cells of 6 to 8 µm and a clot of packed ones are drawn here, in other ways
than training does (`wsi_engine.training.red_cells`), in three stains. Every detection is false.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from wsi_engine.models.starconvex.model import StarConvexModel, load_starconvex, load_weights
from wsi_engine.training.validate import predict

MPP = 0.25
SIDE = 1536
STAINS = {
    "pink": ((236, 214, 222), (206, 110, 128)),
    "red": ((240, 232, 230), (188, 44, 52)),
    "brick": ((232, 222, 214), (176, 84, 70)),
}
"""Ground and cells, (R, G, B)."""


def smear(stain: str, rng: np.random.Generator) -> np.ndarray:
    """Draw discs of 6 to 8 µm with a paler middle, a third of the glass covered."""
    ground, red = (np.array(colour, float) for colour in STAINS[stain])
    image = np.tile(ground, (SIDE, SIDE, 1))
    y, x = np.mgrid[-20:21, -20:21]
    for row, column in rng.integers(21, SIDE - 21, (1300, 2)):
        radius = rng.uniform(3.0, 4.0) / MPP
        r = np.hypot(y, x) / radius
        alpha = np.clip((1 - r) * radius + 0.5, 0, 1) * (1 - 0.45 * np.exp(-((r / 0.4) ** 2)))
        part = image[row - 20 : row + 21, column - 20 : column + 21]
        part += alpha[..., None] * (np.minimum(part, red) - part)
    return finish(image, rng)


def clot(stain: str, rng: np.random.Generator) -> np.ndarray:
    """Draw cells pressed against each other: the cells of random points, with pale seams."""
    ground, red = (np.array(colour, float) for colour in STAINS[stain])
    points = rng.uniform(-30, SIDE + 30, (int((SIDE + 60) ** 2 * MPP**2 / 32), 2))
    y, x = np.mgrid[:SIDE, :SIDE]
    (near, next_), (cell, _) = (
        np.moveaxis(part, -1, 0) for part in cKDTree(points).query(np.stack([y, x], axis=-1), k=2)
    )
    seam = np.clip((next_ - near) / 5, 0, 1)
    shade = rng.uniform(0.75, 1.0, len(points))[cell]
    image = ground + (seam * shade)[..., None] * (red - ground)
    return finish(image, rng)


def finish(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur as a lens does, and add a sensor's noise."""
    image = gaussian_filter(image, (0.8, 0.8, 0)) + rng.normal(0, 3, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def count(model: StarConvexModel, image: np.ndarray, picture: Path | None) -> float:
    """Return detections per mm²."""
    prediction = predict(model, image, MPP)
    nuclei = model.decode(prediction.maps)
    if picture is not None:
        shown = Image.fromarray(image)
        draw = ImageDraw.Draw(shown)
        for ring in np.split(nuclei.xy * prediction.scale, nuclei.offsets[1:])[:-1]:
            draw.polygon([tuple(point) for point in ring], outline=(0, 160, 0))
        shown.crop((0, 0, 512, 512)).save(picture)
    return len(nuclei) / (SIDE * MPP / 1000) ** 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, nargs="*", help="the shipped ones if not given")
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    print(
        "| weights | " + " | ".join(f"{k}, {s}" for k in ("smear", "clot") for s in STAINS) + " |"
    )
    for path in arguments.weights or [None]:
        model = load_starconvex() if path is None else load_weights(path)
        model = model.to(model.device)
        name = "shipped" if path is None else path.stem
        cells = []
        for drawn in (smear, clot):
            for stain in STAINS:
                image = drawn(stain, np.random.default_rng(7))
                picture = arguments.pictures and (
                    arguments.pictures / f"{name}_{drawn.__name__}_{stain}.png"
                )
                cells.append(f"{count(model, image, picture):,.0f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
