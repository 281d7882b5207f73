"""The corrections of a slide: a record that outlives every run."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import shapely

from wsi_engine.digests import digest_of
from wsi_engine.errors import CorrectionsError, GeoJSONError
from wsi_engine.nuclei.labels import ADDED, EDITED, SOURCE_KEY
from wsi_engine.qupath.colours import Colour, ColourAlpha
from wsi_engine.qupath.objects import PathObject, object_features
from wsi_engine.qupath.reader import read_objects
from wsi_engine.results.facts import AppliedFile, CorrectionFacts
from wsi_engine.results.layout import CORRECTIONS

MEMBER = "wsi_engine"


@dataclass(frozen=True)
class Corrections:
    """What a person decided about the nuclei of a slide; it wins over every run.

    Attributes
    ----------
    slide, model
        Fingerprint of the slide and name of the model to whose nuclei the ids belong.
    deleted
        Ids of nuclei of the engine that are none.
    edited, added
        Nuclei by id as they shall be: of the engine, and drawn by a person. They are
        detections of one polygon each, on the 0.01 px grid.
    applied
        Name and sha256 of each file that was taken in, in this order.
    outlines
        By id the outlines that nuclei of the engine had before they were deleted or edited, in
        QuPath pixels, as far as they are known.
    checked
        Areas in which a person has looked at everything, in QuPath pixels.
    """

    slide: str
    model: str
    deleted: frozenset[str]
    edited: dict[str, PathObject]
    added: dict[str, PathObject]
    applied: tuple[tuple[str, str], ...] = ()
    outlines: Mapping[str, shapely.Polygon] = field(default_factory=dict)
    checked: tuple[shapely.Geometry, ...] = ()

    @staticmethod
    def none(slide: str, model: str) -> Corrections:
        """Return the corrections of a slide that has none."""
        return Corrections(slide, model, frozenset(), {}, {})

    def __bool__(self) -> bool:
        return bool(self.deleted or self.edited or self.added or self.checked)

    @property
    def counts(self) -> dict[str, int]:
        """How many nuclei are deleted, edited, added."""
        return {"deleted": len(self.deleted), EDITED: len(self.edited), ADDED: len(self.added)}

    def followed_by(
        self,
        deleted: Iterable[str],
        edited: Mapping[str, PathObject],
        added: Mapping[str, PathObject],
        *,
        outlines: Mapping[str, shapely.Polygon] = MappingProxyType({}),
        checked: Sequence[shapely.Geometry] = (),
    ) -> Corrections:
        """Return these corrections and later ones, the later winning.

        Parameters
        ----------
        deleted
            Ids of nuclei of the engine, or of added ones, which then never were.
        edited, added
            Nuclei by id; one of the engine that was deleted and is added again counts as edited.
        outlines
            What deleted and edited nuclei looked like before; the earliest that is known stays.
        checked
            Areas that were looked over now; without any, those of before stay.
        """
        gone, mine, drawn = set(self.deleted), dict(self.edited), dict(self.added)
        for identity in deleted:
            mine.pop(identity, None)
            if drawn.pop(identity, None) is None:
                gone.add(identity)
        for identity, item in edited.items():
            (drawn if identity in drawn else mine)[identity] = item
        for identity, item in added.items():
            (mine if identity in gone else drawn)[identity] = item
            gone.discard(identity)
        known = {**outlines, **self.outlines}
        return replace(
            self,
            deleted=frozenset(gone),
            edited=mine,
            added=drawn,
            outlines={i: known[i] for i in sorted(known) if i in gone or i in mine},
            checked=tuple(checked) or self.checked,
        )

    def new_classes(self, known: Sequence[str]) -> list[str]:
        """Return the classes that a model does not know, sorted."""
        there = {item.class_name for item in self._objects()}
        return sorted(name for name in there if name is not None and name not in known)

    def colours(self) -> dict[str, Colour | ColourAlpha]:
        """Return the colours that classes have in the corrections."""
        classes = (item.classification for item in self._objects())
        return {str(c): c.colour for c in classes if c is not None}

    def write(self, path: Path) -> None:
        """Write the record; the same corrections give the same bytes."""
        about: dict[str, Any] = {
            "slide": self.slide,
            "model": self.model,
            "deleted": sorted(self.deleted),
            "applied": [{"file": file, "sha256": digest} for file, digest in self.applied],
        }
        if self.outlines:
            about["outlines"] = {
                identity: shapely.get_coordinates(shape.exterior).tolist()
                for identity, shape in sorted(self.outlines.items())
            }
        if self.checked:
            about["checked"] = [shapely.to_geojson(area) for area in self.checked]
        objects = [
            replace(item, metadata=item.metadata | {SOURCE_KEY: source})
            for source, items in ((EDITED, self.edited), (ADDED, self.added))
            for _, item in sorted(items.items())
        ]
        features = object_features(objects)
        document = {"type": "FeatureCollection", MEMBER: about, "features": features}
        raw = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        path.write_bytes(gzip.compress(raw, mtime=0))

    def summary(self, path: Path, time: str | None = None) -> CorrectionFacts:
        """Return what ``run.json`` says of the corrections that were written to a file.

        Parameters
        ----------
        path
            File of the corrections; there is none where no corrections are left.
        time
            When they were applied to a result that was there.
        """
        return CorrectionFacts(
            file=path.name if self else None,
            sha256=digest_of(path) if self else None,
            **self.counts,
            applied=tuple(AppliedFile(file=file, sha256=sha256) for file, sha256 in self.applied),
            time=time,
        )

    def _objects(self) -> Iterable[PathObject]:
        return (*self.edited.values(), *self.added.values())


def read_corrections(folder: Path) -> Corrections | None:
    """Read the record in a result folder; ``None`` if there is none.

    Raises
    ------
    CorrectionsError
        When there is one that cannot be read.
    """
    path = folder / CORRECTIONS
    if not path.exists():
        return None
    try:
        about: dict[str, Any] = orjson.loads(gzip.decompress(path.read_bytes()))[MEMBER]
        objects = read_objects(path, strict=True)
        sources: dict[str, dict[str, PathObject]] = {EDITED: {}, ADDED: {}}
        for item in objects:
            sources[item.metadata.pop(SOURCE_KEY)][str(item.id)] = item
        return Corrections(
            slide=about["slide"],
            model=about["model"],
            deleted=frozenset(about["deleted"]),
            edited=sources[EDITED],
            added=sources[ADDED],
            applied=tuple((entry["file"], entry["sha256"]) for entry in about["applied"]),
            outlines={i: shapely.Polygon(ring) for i, ring in about.get("outlines", {}).items()},
            checked=tuple(shapely.from_geojson(text) for text in about.get("checked", ())),
        )
    except (
        OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, GeoJSONError,
        shapely.errors.ShapelyError,
    ) as error:  # fmt: skip
        raise CorrectionsError(
            f"{path} cannot be read ({error}): apply the corrected file again, after moving "
            "this one away"
        ) from None


def corrections_for(folder: Path, slide: str, model: str) -> Corrections:
    """Return the corrections in a result folder, for a run on a slide with a model.

    Raises
    ------
    CorrectionsError
        When there are some that are of another slide or model, whose nuclei have other ids.
    """
    corrections = read_corrections(folder)
    if corrections is None:
        return Corrections.none(slide, model)
    if (corrections.slide, corrections.model) != (slide, model):
        other = "slide" if corrections.slide != slide else f"model ({corrections.model})"
        raise CorrectionsError(
            f"{folder} holds corrections of nuclei of another {other}: choose another --output, "
            f"or move {CORRECTIONS} away to go without them"
        )
    return corrections
