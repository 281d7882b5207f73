#!/usr/bin/env bash
# OpenSlide sees only the finest level of a pyramid whose coarser levels are in SubIFDs.
#
# Versions   openslide-python 1.4.3 with openslide-bin 4.0.1.1; written with tifffile 2026.2.24
# Behaviour  A tiled RGB TIFF with two coarser levels in SubIFDs, as OME-TIFF lays pyramids out
#            (QuPath, Bio-Formats, pyvips subifd=True), opens without a word and has one level. The
#            same levels in pages that are flagged as reduced are all seen. Whoever asks for an
#            overview of the former decodes the whole slide.
# Seen       levels in pages: 3, levels in SubIFDs: 1
# Exits with another status than 0 once that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check \
    openslide-python==1.4.3 openslide-bin==4.0.1.1 tifffile==2026.2.24 numpy==2.4.3 pillow==12.1.1
env/bin/python - <<'PYTHON'
import numpy as np
import openslide
import tifffile

image = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)
form = {"photometric": "rgb", "tile": (256, 256), "metadata": None}
for name, subifds in (("pages.tif", None), ("subifds.tif", 2)):
    with tifffile.TiffWriter(name) as tiff:
        tiff.write(image, subifds=subifds, **form)
        tiff.write(image[::2, ::2], subfiletype=1, **form)
        tiff.write(image[::4, ::4], subfiletype=1, **form)
seen = {name: openslide.OpenSlide(name).level_count for name in ("pages.tif", "subifds.tif")}
with tifffile.TiffFile("subifds.tif") as tiff:
    assert len(tiff.series[0].levels) == 3, "the file has its three levels"
print(f"levels in pages: {seen['pages.tif']}, levels in SubIFDs: {seen['subifds.tif']}")
assert seen == {"pages.tif": 3, "subifds.tif": 1}
PYTHON
