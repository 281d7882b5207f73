"""Looks in files: JSON beside the weights of a model, or a reference image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import SettingsError
from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.normalisation.looks import Look, describe_look, look_of, read_look
from wsi_engine.slide.normalisation.methods import Method
from wsi_engine.slide.plain_image import PlainImage

SUFFIX = ".looks.json"
"""What the file is called that lies beside ``NAME.safetensors``: ``NAME.looks.json``."""

MOST_BYTES = 1_000_000


def write_looks(path: Path, tissue: npt.NDArray[np.uint8], made: Mapping[str, Any]) -> None:
    """Write what images look like, in the terms of every method.

    Parameters
    ----------
    path
        ``NAME.looks.json``, to be found beside ``NAME.safetensors``.
    tissue
        What a model was trained on, at its pixel size; uint8, shape (..., height, width, 3).
    made
        How the file was made, for those who read it.

    Raises
    ------
    SlideError
        When the pixels do not show two stains.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> stains = np.array([[0.6, 0.7, 0.3], [0.2, 0.8, 0.4]])
    >>> tissue = 255 * np.exp(-rng.gamma(2, 0.4, (64, 64, 2)) @ stains)
    >>> write_looks(Path("own.looks.json"), tissue.astype(np.uint8), {"from": "an example"})
    >>> type(read_target(Path("own.looks.json"), "macenko")).__name__
    'StainLook'
    """
    looks = {method: describe_look(look_of(tissue, method)) for method in get_args(Method)}
    path.write_text(json.dumps({"made": dict(made), **looks}) + "\n", encoding="utf-8")


def read_target(path: Path, method: Method) -> Look:
    """Read the look that slides are to get.

    Parameters
    ----------
    path
        What `write_looks` wrote, or an image of stained tissue.

    Raises
    ------
    SettingsError
        When the file cannot be read, or holds neither.
    SlideError
        When it is an image that Pillow cannot read, or shows no two stains.
    """
    if not path.is_file():
        raise SettingsError(f"{path} is not there: give an image, or a file NAME{SUFFIX}")
    if path.suffix != ".json":
        with PlainImage(path) as image:
            whole = image.info.bounds
            pixels = image.read(0, LevelBox(0, 0, whole.width, whole.height))
        return look_of(pixels, method)
    try:
        with path.open(encoding="utf-8") as stream:
            described = json.loads(stream.read(MOST_BYTES))
        return read_look(described[method], method)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except SettingsError as error:
        raise SettingsError(f"{path.name}: {error}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SettingsError(
            f"{path.name} holds no look for {method}: give an image, or a file that "
            "wsi_engine.slide.normalisation.look_files.write_looks wrote"
        ) from None
