"""Codes for classes, measurements and units: those of the standards, else of a private scheme."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from wsi_engine.export.extras import extra
from wsi_engine.nuclei.measure.columns import Column

SCHEME = "99WSIENGINE"
"""Designator of the private coding scheme, whose meanings are the names that the engine has."""

_LONGEST = 64
"""Characters of a text of value representation LO; as bytes it suits readers that count these."""
_LONGEST_VALUE = 16
"""The same of SH, such as the value of a code."""


class Code(NamedTuple):
    """A coded concept: value, scheme and meaning."""

    value: str
    scheme: str
    meaning: str


NUCLEUS = Code("84640000", "SCT", "Nucleus")
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
TISSUE = Code("85756007", "SCT", "Tissue")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
PLACE = Code("309825002", "SCT", "Spatial and Relational Concept")
FAMILY = Code("123110", "DCM", "Artificial Intelligence")
"""Family of algorithms of whoever found nuclei and regions."""

_TUMOUR_CELL = Code("252987004", "SCT", "Tumor cell")
_LYMPHOCYTE = Code("56972008", "SCT", "Lymphocyte")
_EPITHELIAL_CELL = Code("4212006", "SCT", "Epithelial cell")

CELLS: dict[str, Code] = {
    "tumor": _TUMOUR_CELL,
    "tumour": _TUMOUR_CELL,
    "neoplastic": _TUMOUR_CELL,
    "lymphocyte": _LYMPHOCYTE,
    "plasma cell": Code("113335003", "SCT", "Plasma cell"),
    "macrophage": Code("58986001", "SCT", "Macrophage"),
    "monocyte": Code("55918008", "SCT", "Monocyte"),
    "eosinophil": Code("14793004", "SCT", "Eosinophil"),
    "epithelial": _EPITHELIAL_CELL,
    "non-neoplastic epithelial": _EPITHELIAL_CELL,
    "erythrocyte": Code("41898006", "SCT", "Erythrocyte"),
    "mitosis": Code("75167008", "SCT", "Mitotic cell"),
}
"""SNOMED CT codes by class of nuclei, in lower case and the singular, without ``cell``."""

AREAS: dict[str, tuple[Code, Code]] = {
    "tissue": (TISSUE, TISSUE),
    "tumor": (ABNORMAL, Code("108369006", "SCT", "Neoplasm")),
    "tumour": (ABNORMAL, Code("108369006", "SCT", "Neoplasm")),
    "necrosis": (ABNORMAL, Code("6574001", "SCT", "Necrosis")),
}
"""Category and type by class of regions, in lower case."""

_MEASURED: dict[str, Code] = {
    "Area µm^2": Code("42798000", "SCT", "Area"),
    "Length µm": Code("131191004", "SCT", "Perimeter"),
    "Max diameter µm": Code("131192006", "SCT", "Diameter of circumscribed circle"),
    "Major axis µm": Code("131187009", "SCT", "Major Axis"),
    "Minor axis µm": Code("131188004", "SCT", "Minor Axis"),
}

_UNITS: dict[str, tuple[str, str]] = {
    "": ("1", "no units"),
    "µm": ("um", "micrometer"),
    "µm^2": ("um2", "square micrometer"),
    "1/mm^2": ("/mm2", "per square millimeter"),
    "OD": ("{OD}", "optical density"),
    "OD/µm": ("{OD}/um", "optical density per micrometer"),
    "°": ("deg", "degree"),
    "bit": ("bit", "bit"),
    "%": ("%", "percent"),
}
"""UCUM has no unit of optical density, which is a number: it is an annotation in braces."""


def nucleus_code(class_name: str | None) -> tuple[Code, Code]:
    """Return category and type of the nuclei of a class; ``None`` is that of all others.

    A class that the table does not know has its name as value in the private scheme.
    """
    if class_name is None:
        return ANATOMY, NUCLEUS
    singular = re.sub(r"(\s+cell)?s?$", "", class_name.strip().lower())
    known = CELLS.get(singular) or CELLS.get(class_name.strip().lower())
    category = ABNORMAL if known == _TUMOUR_CELL else ANATOMY
    return category, known or private(class_name)


def area_code(class_name: str | None) -> tuple[Code, Code]:
    """Return category and type of a region of a class."""
    if class_name is None:
        return PLACE, private("Region")
    return AREAS.get(class_name.strip().lower(), (PLACE, private(class_name)))


def measurement_code(column: Column) -> Code:
    """Return the code of a measurement: a standard one, or its name in the private scheme."""
    return _MEASURED.get(column.name) or private(column.name)


def unit_code(column: Column) -> Code:
    """Return the UCUM code of a unit; one that is not known is an annotation in braces.

    Where nothing describes a column, the unit is what its name ends in, as QuPath's names do.
    """
    unit = column.unit or next(
        (end for end in ("µm", "µm^2") if column.name.endswith(f" {end}")), ""
    )
    plain = re.sub(r"[^!-z|~]", "", unit) or "unit"
    value, meaning = _UNITS.get(unit, (f"{{{plain}}}", unit))
    return Code(value, "UCUM", text(meaning))


def private(name: str) -> Code:
    """Return a name as a code of the private scheme.

    The value is the name where that fits, else the beginning of its SHA-256: there are long values
    in DICOM, too, but wsidicom (0.33), for one, does not read them.
    """
    digest = hashlib.sha256(name.encode()).hexdigest()[:_LONGEST_VALUE]
    short = text(name)
    return Code(short if len(short.encode()) <= _LONGEST_VALUE else digest, SCHEME, short)


def text(words: str) -> str:
    """Return words as a text of value representation LO: short, and without a backslash."""
    printable = "".join(c if c.isprintable() and c != "\\" else "/" for c in words)
    short = printable.strip().encode()[:_LONGEST].decode(errors="ignore")
    return short.strip() or "-"


def concept(code: Code) -> Any:
    """Return a code as the item of a code sequence."""
    return extra("highdicom.sr", "dicom").CodedConcept(code.value, code.scheme, code.meaning)


def scheme_item(codes: Iterable[Code]) -> Any:
    """Return what an object says of the private scheme; ``None`` where no code is of it."""
    if not any(code.scheme == SCHEME for code in codes):
        return None
    return extra("highdicom.coding_schemes", "dicom").CodingSchemeIdentificationItem(
        designator=SCHEME, name="wsi_engine: names of classes and of measurements"
    )
