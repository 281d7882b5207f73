"""QuPath's classes of intensity: ``Tumor: Positive``, ``Tumor: 1+``, derived from ``Tumor``."""

from __future__ import annotations

from wsi_engine.nuclei.positivity import GRADES

_SEPARATOR = ": "


def base_of(name: str | None) -> str | None:
    """Return the first ancestor of a class that is no intensity; ``None`` if there is none.

    QuPath's ``PathClassTools.getNonIntensityAncestorClass``.

    Examples
    --------
    >>> base_of("Tumor: Positive"), base_of("Tumor"), base_of("3+")
    ('Tumor', 'Tumor', None)
    """
    names = [] if name is None else name.split(_SEPARATOR)
    while names and names[-1] in GRADES:
        names.pop()
    return _SEPARATOR.join(names) or None


def grade_of(name: str | None) -> str | None:
    """Return the intensity that a class ends with; ``None`` where it ends with none."""
    last = None if name is None else name.split(_SEPARATOR)[-1]
    return last if last in GRADES else None


def derived(base: str | None, grade: str) -> str:
    """Return the class of an intensity within another class, or by itself."""
    return grade if base is None else f"{base}{_SEPARATOR}{grade}"


def is_ignored(name: str | None) -> bool:
    """Whether QuPath gives no intensity to what has a class (``isIgnoredClass``)."""
    return name is not None and name.endswith("*")
