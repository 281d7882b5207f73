#!/usr/bin/env bash
# OpenSlide shows 12-bit colours that are stored in 16 bits at a sixteenth of their brightness.
#
# Versions   openslide-python 1.4.3 with openslide-bin 4.0.1.1; written with tifffile 2026.2.24
# Behaviour  A tiled RGB TIFF of 16 bits per sample opens without a word, and 65535 is taken for
#            white. Where a camera of 12 bits wrote its values as they are (0 to 4095), white
#            is 16 of 255 and a slide is almost black; MaxSampleValue in the file changes nothing.
# Seen       16 bits used: 255, 12 bits used: 16, with MaxSampleValue 4095: 16
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

MAX_SAMPLE_VALUE = (281, "H", 3, (4095, 4095, 4095), True)
seen = []
for white, tags in ((65535, ()), (4095, ()), (4095, (MAX_SAMPLE_VALUE,))):
    image = np.full((256, 256, 3), white, np.uint16)
    tifffile.imwrite(
        "deep.tif", image, photometric="rgb", tile=(256, 256), metadata=None, extratags=tags
    )
    with openslide.OpenSlide("deep.tif") as slide:
        seen.append(slide.read_region((0, 0), 0, (1, 1)).getpixel((0, 0))[0])
print("16 bits used: {}, 12 bits used: {}, with MaxSampleValue 4095: {}".format(*seen))
assert seen == [255, 16, 16]
PYTHON
