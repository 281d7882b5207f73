"""What trained networks know, written as a set to train another on.

Teachers run eight-fold over images that have labels, or that nobody labelled. For each they
leave an image of their mean object probability, and for the unlabelled ones nuclei as labels:
what they are sure of as nuclei, what they are not sure of as unknown. A student then learns from
them through the same crops, warps and stains as from labels; see ``taught`` in
`wsi_engine.training.config.DataConfig` (Hinton et al., "Distilling the knowledge in a neural
network", 2015, of one teacher and of several).

    python -m wsi_engine.training.teaching WEIGHTS OUT --mpp 0.25 IMAGES_OR_SLIDES...
    python -m wsi_engine.training.teaching WEIGHTS OUT --with OTHER_WEIGHTS IMAGES_OR_SLIDES...
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from wsi_engine.errors import ModelError
from wsi_engine.evaluation.images import UNKNOWN, is_image, read_image
from wsi_engine.models.augmented import augmented
from wsi_engine.models.learning import Teacher
from wsi_engine.models.registry import find_model
from wsi_engine.nuclei.raster import rasterise
from wsi_engine.slide.frames import ModelBox, Mpp
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.protocol import RGB
from wsi_engine.slide.whole_pixels import make_model_grid
from wsi_engine.training.validate import Prediction, by_score, predict

# Between these probabilities a teacher does not say whether it is a nucleus.
_UNSURE, _SURE = 0.25, 0.5
# Fields of a slide are cut as large as this, and taken where this share of them is no glass.
_FIELD_PX = 1024
_LEAST_TISSUE = 0.3
_GLASS_DENSITY = 0.08


def teach(
    teachers: Sequence[Teacher], image: RGB, mpp: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """Return what teachers say of an image.

    Parameters
    ----------
    teachers
        The first draws the nuclei; how likely they are, all say together.

    Returns
    -------
    probability, labels
        Mean object probability from 0 to 255 on the finest of their grids over the whole image,
        uint8; and the nuclei in the image's pixels, uint16, see `wsi_engine.models.label_rays`.
    """
    predictions = [predict(each, image, mpp, maps_of=augmented(each, 8).maps) for each in teachers]
    probability = _mean(
        [
            each.object_probability(prediction.maps)
            for each, prediction in zip(teachers, predictions, strict=True)
        ]
    )
    labels = _labels(teachers[0], predictions[0], probability)
    return np.rint(255 * probability).astype(np.uint8), labels


def _mean(maps: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Return the mean of maps of one image, on the finest of their grids."""
    height, width = max((each.shape for each in maps), key=math.prod)
    return np.mean([_resized(each, height, width) for each in maps], axis=0, dtype=np.float32)


def _resized(pixels: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    if pixels.shape == (height, width):
        return pixels
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)


def _labels(
    model: Teacher, prediction: Prediction, probability: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint16]:
    """Draw the nuclei of a teacher; a nucleus is as likely as its likeliest point."""
    nuclei = by_score(model.with_threshold(_UNSURE).decode(prediction.maps))
    drawn = rasterise(nuclei.xy * prediction.scale, nuclei.offsets, prediction.shape)
    likely = _resized(probability, *prediction.shape)
    peaks = np.asarray(ndimage.maximum(likely, drawn, np.arange(len(nuclei) + 1)))
    # Where no nucleus is drawn, the others may still see one.
    likely = np.where(drawn > 0, peaks[drawn], likely)
    labels = np.where((drawn > 0) & (likely >= _SURE), drawn, UNKNOWN)
    return np.where(likely >= _UNSURE, labels, 0).astype(np.uint16)


def teach_images(
    teachers: Sequence[Teacher], images: Sequence[Path], mpp: float, out: Path
) -> None:
    """Write, for images that have labels of their own, what teachers say of them."""
    out.mkdir(parents=True, exist_ok=True)
    for path in images:
        target = out / f"{path.stem}.png"
        if not target.exists():
            probability, _ = teach(teachers, read_image(path), mpp)
            _save(target, probability)


def teach_slide(teachers: Sequence[Teacher], slide: Path, mpp: float | None, out: Path) -> None:
    """Write fields of a slide that nobody labelled, with the labels of teachers.

    Parameters
    ----------
    mpp
        Pixel size of the slide in µm where the file states none.
    out
        Gets the folders ``images``, ``labels`` and ``taught``. What is there already is kept,
        so that a stopped run can go on.
    """
    for name in ("images", "labels", "taught"):
        (out / name).mkdir(parents=True, exist_ok=True)
    finest = min(each.spec.mpp for each in teachers)
    for name, field in _tissue_fields(slide, mpp, finest):
        if (out / "images" / f"{name}.png").exists():
            continue
        probability, labels = teach(teachers, field, finest)
        _save(out / "taught" / f"{name}.png", probability)
        _save(out / "labels" / f"{name}.png", labels)
        _save(out / "images" / f"{name}.png", field)


def _tissue_fields(path: Path, mpp: float | None, model_mpp: float) -> Iterator[tuple[str, RGB]]:
    with open_slide(path) as slide:
        info = slide.info if mpp is None else replace(slide.info, mpp=Mpp(mpp, mpp))
        # As in a run: a student that learnt from blurred pixels would meet sharp ones.
        reader = GridReader(slide, make_model_grid(info, model_mpp))
        width, height = reader.grid.extent.width, reader.grid.extent.height
        for y in range(0, height - _FIELD_PX // 2, _FIELD_PX):
            for x in range(0, width - _FIELD_PX // 2, _FIELD_PX):
                box = ModelBox(x, y, min(_FIELD_PX, width - x), min(_FIELD_PX, height - y))
                field = reader.read(box)
                density = -np.log((field[::8, ::8].astype(np.float32) + 1) / 256).mean(axis=2)
                if (density > _GLASS_DENSITY).mean() >= _LEAST_TISSUE:
                    yield f"{path.stem}_{x}_{y}", field


def _teacher(method: str, weights: Path) -> Teacher:
    model = find_model(method).load(weights).to("cpu")
    if not isinstance(model, Teacher):
        raise ModelError(f"{method} cannot teach: it states no object probability")
    return model


def _save(path: Path, pixels: npt.NDArray[np.generic]) -> None:
    partial = path.with_suffix(".partial")
    Image.fromarray(pixels).save(partial, "PNG")
    partial.replace(path)


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line, or from the words of one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("paths", type=Path, nargs="+", help="a folder of images, or slides")
    parser.add_argument(
        "--with", dest="others", type=Path, action="append", default=[], metavar="WEIGHTS",
        help="of another teacher; may be given several times",
    )  # fmt: skip
    parser.add_argument("--method", default="starconvex", help="whose weights they are")
    parser.add_argument("--mpp", type=float, help="of images, and of slides that state none")
    arguments = parser.parse_args(words)
    weights = [arguments.weights, *arguments.others]
    teachers = [_teacher(arguments.method, each) for each in weights]
    for path in arguments.paths:
        if path.is_dir():
            images = sorted(filter(is_image, path.iterdir()))
            teach_images(teachers, images, arguments.mpp, arguments.out)
        else:
            teach_slide(teachers, path, arguments.mpp, arguments.out)


if __name__ == "__main__":
    main()
