"""What each method finds on a small slide that is kept with the tests, to notice any change.

Where the same settings come to give other nuclei or other values, count up ``RESULT_VERSION`` in
``wsi_engine/engine/plan.py``, so that results of before are not taken for those of now, and write
the file anew::

    python -m tests.support.golden
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import shapely

import wsi_engine
from wsi_engine.engine.plan import RESULT_VERSION
from wsi_engine.models.registry import available_models
from wsi_engine.nuclei.measure.groups import GROUPS

FOLDER = Path(__file__).parents[1] / "golden"
SLIDE = FOLDER / "slide.tif"
"""256 x 256 px of generated tissue at 0.4 µm."""
FILE = FOLDER / "results.json"

ADVICE = (
    "the same settings give something else than before: if that is meant, count up RESULT_VERSION "
    "in wsi_engine/engine/plan.py and write the golden file with `python -m tests.support.golden`"
)

SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "compile": "never",
    "tile_size": 128,
    "tissue": False,
    "measure": tuple(GROUPS),
    "regions": False,
    "report": False,
}


def methods() -> list[str]:
    """Names of the models that need nothing else than the package."""
    return [name for name, entry in available_models().items() if entry.spec.embedded]


def observed(method: str) -> dict[str, Any]:
    """Run a method on the slide, networks in fp32, and describe what it finds.

    Centres and means can be compared with a tolerance on any processor; the digest of ids,
    outlines and classes is there for methods without a network, which leave no room for one.
    """
    with _in_fp32():
        table = wsi_engine.run(SLIDE, model=method, **SETTINGS).nuclei.arrow
    outlines = shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))
    centres = shapely.get_coordinates(shapely.centroid(outlines))
    found: dict[str, Any] = {"centres_px": np.round(centres, 2).tolist()}
    if available_models()[method].weights is None:
        found["digest"] = _digest(table)
    found["means"] = {
        field.name: float(f"{np.nanmean(table[field.name].to_numpy()):.6g}")
        for field in table.schema
        if field.type == pa.float32()
    }
    return found


def golden() -> dict[str, Any]:
    """Return what was found when the file was written."""
    kept: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return kept


def write() -> None:
    """Write the file anew, if the result version allows that."""
    now = {"result_version": RESULT_VERSION} | {name: observed(name) for name in methods()}
    if FILE.exists() and golden() != now and golden()["result_version"] >= RESULT_VERSION:
        raise SystemExit("the results have changed: count up RESULT_VERSION first")
    FILE.write_text(json.dumps(now) + "\n", encoding="utf-8")


def _digest(table: pa.Table) -> str:
    told = hashlib.sha256()
    for name in ("id", "geometry", "class"):
        for value in table[name].to_pylist():
            told.update(repr(value).encode())
    return told.hexdigest()


@contextmanager
def _in_fp32() -> Iterator[None]:
    with patch("wsi_engine.models.layers.precision_of", lambda _: "float32"):
        yield


if __name__ == "__main__":
    write()
