"""The nuclei of a result as they are written: GeoJSON and GeoParquet side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from wsi_engine.closing import Closing
from wsi_engine.nuclei.labels import CORE_COLUMNS, LABEL_COLUMNS, Labels
from wsi_engine.nuclei.measure.columns import Column, Measurements
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.qupath.colours import Colour, ColourAlpha
from wsi_engine.qupath.features import (
    PROBABILITY_NAME,
    SCORE_NAME,
    detection_features,
    name_in_cell,
)
from wsi_engine.qupath.writer import GeoJSONWriter
from wsi_engine.results.column_dictionary import write_dictionary
from wsi_engine.results.layout import COLUMNS, NUCLEI_TABLE, geojson_name
from wsi_engine.results.nucleus_table import GeoParquetWriter

CLASSIFIER_FACT = "classifier"
"""Name of the fact that a table of nuclei has when a classifier gave the classes."""


def columns_for_qupath(
    columns: Sequence[Column], which: Literal["essential", "all", "none"]
) -> tuple[str, ...]:
    """Choose the measurements that go to GeoJSON, by name."""
    return tuple(
        column.name
        for column in columns
        if which == "all" or (which == "essential" and column.essential)
    )


class NucleusFiles(Closing):
    """Writes nuclei to GeoJSON and GeoParquet side by side, chunk by chunk; a context.

    ``columns.json`` beside them says what every column means.

    Parameters
    ----------
    folder
        Folder in which the files grow.
    classes
        Class names by index.
    columns
        The measurements that every chunk carries.
    for_qupath
        Names of those that go to GeoJSON, too.
    slide
        Name of the result, in a column: tables of several slides can be joined.
    facts
        Facts for the metadata of the GeoParquet file; where `CLASSIFIER_FACT` is among them,
        QuPath gets the probabilities of the classes, too.
    split
        Most nuclei per GeoJSON file; ``None`` for one file.
    more_classes
        Class names that the model does not know, numbered after its own.
    colours
        Colours of classes that shall not have the engine's.
    labels
        Names of the columns of labels that every chunk carries.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        columns: Sequence[Column],
        for_qupath: Sequence[str],
        slide: str,
        facts: Mapping[str, object],
        split: int | None,
        more_classes: Sequence[str] = (),
        colours: Mapping[str, Colour | ColourAlpha] = MappingProxyType({}),
        labels: Sequence[str] = LABEL_COLUMNS,
    ) -> None:
        self._folder = folder
        self._classes = np.array([*classes, *more_classes, None], object)
        self._probable = tuple(classes) if CLASSIFIER_FACT in facts else ()
        self._colours = colours
        self._split = split
        self._measurements = tuple(column.name for column in columns)
        self._for_qupath = tuple(for_qupath)
        has_cores = set(CORE_COLUMNS) <= set(labels)
        write_dictionary(folder / COLUMNS, classes, columns, for_qupath, with_cores=has_cores)
        self._table = GeoParquetWriter(
            folder / NUCLEI_TABLE,
            classes,
            self._measurements,
            facts,
            labels,
            more_classes,
            slide,
        )
        self._geojson_count = 0
        self._geojson = self._next_geojson()
        self.count = 0

    def write(
        self, ids: list[str], nuclei: Nuclei, labels: Labels, cells: Polygons | None = None
    ) -> None:
        """Append nuclei; with cells, in QuPath pixels, they are cells in QuPath."""
        measurements: Measurements = dict(
            zip(self._measurements, nuclei.measurements.T, strict=True)
        )
        self._table.write(ids, nuclei, measurements, labels.columns())
        shown: Measurements = {SCORE_NAME: nuclei.scores}
        shown |= {
            PROBABILITY_NAME + name: nuclei.probabilities[:, k]
            for k, name in enumerate(self._probable)
        }
        features = detection_features(
            ids,
            nuclei.polygons,
            self._classes[nuclei.classes].tolist(),
            shown
            | {
                name if cells is None else name_in_cell(name): measurements[name]
                for name in self._for_qupath
            },
            labels.name,
            labels.metadata(),
            self._colours,
            labels.colours,
            labels.locks,
            cells,
        )
        while features:
            room = len(features)
            if self._split is not None:
                if self._geojson.count == self._split:
                    self._geojson.close()
                    self._geojson = self._next_geojson()
                room = self._split - self._geojson.count
            self._geojson.write(features[:room])
            features = features[room:]
        self.count += len(nuclei)

    def close(self) -> None:
        """Finish the files."""
        self._table.close()
        self._geojson.close()

    def _next_geojson(self) -> GeoJSONWriter:
        self._geojson_count += 1
        number = None if self._split is None else self._geojson_count
        return GeoJSONWriter(self._folder / geojson_name(number))
