#!/usr/bin/env bash
# spatialdata reads no plain labels of OME-NGFF 0.5, and of 0.4 none without additions of its own.
#
# Versions   spatialdata 0.7.3 with ome-zarr 0.15.0, zarr 3.1.6, dask 2026.1.1 and numpy 2.4.6
# Behaviour  read_zarr knows 0.5 by the name 0.5-dev-spatialdata alone: labels that ome-zarr-py adds in
#            0.5 to a store of SpatialData make all of the store unreadable. Where a folder has no
#            spatialdata_attrs, 0.4 is expected, and 0.5 is not understood. Of 0.4 it wants the
#            coordinateTransformations of the whole pyramid, which are optional there (those of each
#            level are not), and in them named systems of coordinates, of which 0.4 knows nothing.
#            ome-zarr-py reads all six.
# Seen       0.4: KeyError('coordinateTransformations'), 0.4 with a scale of the whole pyramid:
#            AssertionError(), 0.4 with an identity between named systems: read,
#            0.5: KeyError('multiscales'), own store: read, own store with labels in 0.5: KeyError('0.5')
# Exits with another status than 0 once that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check \
    spatialdata==0.7.3 ome-zarr==0.15.0 zarr==3.1.6 dask==2026.1.1 numpy==2.4.6 pandas==2.3.3 \
    xarray==2026.9.0 anndata==0.12.19
cat > labels.py <<'PYTHON'
import warnings

import numpy as np
import spatialdata
import zarr
from ome_zarr.format import FormatV04, FormatV05
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr.writer import write_image, write_labels
from spatialdata.models import Labels2DModel

warnings.simplefilter("ignore")
PIXELS = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
AXES = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
SCALE = {"type": "scale", "scale": [0.5, 0.5]}
NAMED = {
    "type": "identity",
    "input": {"name": "yx", "axes": AXES},
    "output": {"name": "global", "axes": AXES},
}


def add_labels(group, form):
    write_labels(PIXELS, group, "cells", axes=AXES, fmt=form, scale_factors=[2])


def write(form, of_all=None):
    group = zarr.open_group("image.zarr", mode="w", zarr_format=form.zarr_format)
    write_image(PIXELS, group, axes=AXES, fmt=form, scale_factors=[2])
    add_labels(group, form)
    if of_all is not None:
        labels = group["labels/cells"]
        (multiscales,) = labels.attrs["multiscales"]
        labels.attrs["multiscales"] = [{**multiscales, "coordinateTransformations": [of_all]}]


def read(path, name="cells"):
    levels = next(iter(Reader(parse_url(f"{path}/labels/{name}"))())).data
    assert (levels[0].compute() == PIXELS).all(), "ome-zarr-py reads them"
    try:
        element = spatialdata.read_zarr(path)[name]
    except (KeyError, AssertionError) as error:
        return repr(error)
    assert element is not None
    return "read"


seen = {}
write(FormatV04())
seen["0.4"] = read("image.zarr")
write(FormatV04(), SCALE)
seen["0.4 with a scale of the whole pyramid"] = read("image.zarr")
write(FormatV04(), NAMED)
seen["0.4 with an identity between named systems"] = read("image.zarr")
write(FormatV05())
seen["0.5"] = read("image.zarr")
own = Labels2DModel.parse(PIXELS, dims=("y", "x"))
spatialdata.SpatialData(labels={"own": own}).write("own.zarr")
seen["own store"] = read("own.zarr", "own")
add_labels(zarr.open_group("own.zarr", mode="r+", use_consolidated=False), FormatV05())
zarr.consolidate_metadata("own.zarr")
seen["own store with labels in 0.5"] = read("own.zarr")
print(", ".join(f"{what}: {how}" for what, how in seen.items()))
assert list(seen.values()) == [
    "KeyError('coordinateTransformations')",
    "AssertionError()",
    "read",
    "KeyError('multiscales')",
    "read",
    "KeyError('0.5')",
]
PYTHON
env/bin/python labels.py 2> log || { cat log; exit 1; }
