#!/usr/bin/env bash
# pydicom's Dataset.decode finds names too long by their bytes, while the limit is in characters.
#
# Versions   pydicom 3.0.1
# Behaviour  A group of a name (PN) has up to 64 characters, whatever the bytes they take (PS3.5 6.2).
#            A patient's name of 30 letters of three bytes each in UTF-8, as Thai, Georgian or Chinese
#            ones are, is set, written and read without a word; decode() of what was read makes the
#            name anew from its bytes, and counts those: 90. Where validation is to raise, it raises.
#            Of the same words in a text (LO) characters are counted.
# Seen       name: 30 characters in 90 bytes, set, written, read: no warning, decoded: The PN component
#            length (90) exceeds the maximum allowed length of 64., text decoded: no warning,
#            where validation raises: ValueError
# Exits with another status than 0 once that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check pydicom==3.0.1
env/bin/python - <<'PYTHON'
import io
import warnings

from pydicom import config, dcmread
from pydicom.dataset import Dataset

NAME = "\N{GEORGIAN LETTER AN}" * 30


def warned(action):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return " ".join(str(each.message) for each in caught) or "no warning"


def written(keyword):
    patient, stream = Dataset(), io.BytesIO()
    patient.SpecificCharacterSet = "ISO_IR 192"
    setattr(patient, keyword, NAME)
    patient.save_as(stream, implicit_vr=False, little_endian=True)
    return stream.getvalue()


def read(data, keyword):
    patient = dcmread(io.BytesIO(data), force=True)
    assert str(patient[keyword].value) == NAME
    return patient


files = {}
quiet = warned(
    lambda: files.update((each, written(each)) for each in ("PatientName", "StudyDescription"))
)
assert warned(lambda: [read(data, each) for each, data in files.items()]) == quiet
name, text = (read(data, each) for each, data in files.items())
seen = [quiet, warned(name.decode), warned(text.decode)]
assert name.PatientName == NAME
config.settings.reading_validation_mode = config.RAISE
name = read(files["PatientName"], "PatientName")
try:
    name.decode()
    seen.append("nothing")
except ValueError:
    seen.append("ValueError")
print(
    f"name: {len(NAME)} characters in {len(NAME.encode())} bytes, set, written, read: {seen[0]}, "
    f"decoded: {seen[1]}, text decoded: {seen[2]}, where validation raises: {seen[3]}"
)
assert seen == [
    "no warning",
    "The PN component length (90) exceeds the maximum allowed length of 64.",
    "no warning",
    "ValueError",
]
PYTHON
