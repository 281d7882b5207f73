#!/usr/bin/env bash
# To show a label image napari-ome-zarr writes a zarr.json into the folder two levels above it.
#
# Versions   napari-ome-zarr 0.10.0 with napari 0.9.2, zarr 3.1.6 and numpy 2.4.6
# Behaviour  A label image may lie within an image, as image/labels/name, and the reader looks for that
#            image first: it opens the folder two levels above by zarr.open_group, whose mode is "a"
#            unless another is asked for. Where a label image lies elsewhere there is no group to open,
#            and one is made, in Zarr 3 even above OME-Zarr 0.4: an ordinary folder has become a group.
#            The label image itself is shown. One within an image is shown, and nothing is written.
# Seen       by itself: labels, and results/zarr.json written, within an image: image and labels,
#            and nothing written
# Exits with another status than 0 once that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check \
    napari-ome-zarr==0.10.0 napari==0.9.2 zarr==3.1.6 numpy==2.4.6
cat > look.py <<'PYTHON'
import contextlib
import io
from pathlib import Path

import numpy as np
import zarr
from napari_ome_zarr import napari_get_reader


def write(path, **attributes):
    group = zarr.open_group(path, mode="w", zarr_format=2)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    multiscales = [{"version": "0.4", "name": "x", "axes": axes, "datasets": levels}]
    group.attrs.update({"multiscales": multiscales, **attributes})
    group.create_array("0", data=np.ones((16, 16), np.uint16), chunks=(16, 16))


def files():
    return {path.as_posix() for path in Path().rglob("*") if path.parts[0] != "env"}


def looked_at(path):
    before = files()
    read = napari_get_reader(path)
    assert files() == before
    with contextlib.redirect_stdout(io.StringIO()):
        kinds = [kind for _, _, kind in read(path)]
    return kinds, sorted(files() - before)


label = {"image-label": {"version": "0.4"}}
write("results/slide_1/nuclei.zarr", **label)
write("image.zarr")
zarr.open_group("image.zarr/labels", mode="w", zarr_format=2).attrs["labels"] = ["nuclei"]
write("image.zarr/labels/nuclei", **label)
alone, within = looked_at("results/slide_1/nuclei.zarr"), looked_at("image.zarr/labels/nuclei")
for where, (kinds, written) in (("by itself", alone), ("within an image", within)):
    print(f"{where}: {' and '.join(kinds)}, and {' '.join(written) or 'nothing'} written")
assert alone == (["labels"], ["results/zarr.json"])
assert within == (["image", "labels"], [])
PYTHON
env/bin/python look.py
