"""Find out what the images look like that a network was trained on.

    python benchmarks/looks.py configs/train_default.yaml tnbc wsi_engine/models/weights/looks.json

Looked at are the training images of one set of a configuration, shrunk to 0.5 µm per pixel; what
was held out is held out here, too. Those of many laboratories, taken together, look like no slide.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from wsi_engine.slide.normalisation.look_files import write_looks
from wsi_engine.slide.resampling import area_weights, resample
from wsi_engine.training.config import TrainConfig
from wsi_engine.training.datasets import load_dataset, split_dataset
from wsi_engine.training.fields import Field

MPP = 0.5


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("data", help="name of the set")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    sets = {each.name: each for each in TrainConfig.load(arguments.config).data}
    fields, _ = split_dataset(load_dataset(sets[arguments.data]))
    write_looks(
        arguments.output,
        np.concatenate([pixels_of(field) for field in fields])[None],
        {
            "from": f"the {len(fields)} training images of {arguments.data}",
            "mpp": MPP,
            "with": f"python benchmarks/looks.py {arguments.config} {arguments.data} "
            f"{arguments.output}",
        },
    )


def pixels_of(field: Field) -> np.ndarray:
    """Return the pixels of a field at 0.5 µm, shape (n, 3)."""
    ratio = MPP / field.mpp
    height, width = (int(side / ratio) for side in field.image.shape[:2])
    y, x = area_weights(0, height, ratio), area_weights(0, width, ratio)
    return resample(field.image[: y.stop, : x.stop], x, y).reshape(-1, 3)


if __name__ == "__main__":
    main()
