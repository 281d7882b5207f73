"""AnnData, which squidpy and scanpy take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely

from wsi_engine.export.extras import extra
from wsi_engine.export.options import Options
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.nucleus_table import PROBABILITY, polygons_of
from wsi_engine.version import __version__
from wsi_engine.writing import atomic_path

UNCLASSIFIED = "unclassified"


def write(run: SlideResult, path: Path, options: Options) -> list[Path]:
    """Write ``.h5ad``, see `anndata_of`. All values of the slide are in memory, 4 bytes each."""
    del options
    table = anndata_of(run)
    with atomic_path(path) as partial:
        table.write_h5ad(partial, compression="gzip")
    return [path]


def anndata_of(run: SlideResult) -> Any:
    """Return the nuclei as ``anndata.AnnData``.

    ``X`` are the measurements, float32, NaN where one is not defined, and ``var`` says what they
    mean: unit, formula, source. ``obs_names`` are the UUIDs, ``obs`` has class (categorical,
    ``unclassified`` for none, as squidpy's statistics refuse missing ones), score, name, source,
    roi and roi_id. ``obsm["spatial"]`` are centroids in µm from QuPath's origin. With classes
    there are ``obsm["probabilities"]``, their order in ``uns["classes"]``. ``uns["wsi_engine"]``
    tells of slide and model, as JSON. There is no ``uns["spatial"]``: squidpy would take the
    nuclei for the spots of a Visium grid.

    Raises
    ------
    ExportError
        When anndata is not installed.
    """
    anndata, pandas = extra("anndata"), extra("pandas")
    table = run.table
    columns = [run.described(name) for name in table.measurements]
    values = np.empty((len(table), len(columns)), np.float32)
    for k, column in enumerate(columns):
        values[:, k] = table.column(column.name).to_numpy()
    obs = {"class": _classes(run)}
    obs["score"] = table.column("score").to_numpy()
    for name in table.texts:
        texts = table.column(name).cast(pa.string()).combine_chunks().dictionary_encode()
        codes = texts.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        words = _index(texts.dictionary.to_pylist())
        obs[name] = pandas.Categorical.from_codes(codes, categories=words)
    about = {name: [getattr(c, name) for c in columns] for name in ("unit", "formula", "source")}
    return anndata.AnnData(
        X=values,
        obs=pandas.DataFrame(obs, index=_index(table.column("id").to_pylist())),
        var=pandas.DataFrame(about, index=_index(table.measurements), dtype=object),
        obsm={"spatial": _centroids_um(run)} | _probabilities(run),
        uns=_facts(run),
    )


def _classes(run: SlideResult) -> Any:
    """Return the class of each nucleus; those that have none get a category behind the others."""
    names, codes = [*run.classes], run.labels
    if (codes < 0).any():
        rest = UNCLASSIFIED
        while rest in names:
            rest += "_"
        codes = np.where(codes < 0, len(names), codes)
        names.append(rest)
    return extra("pandas").Categorical.from_codes(codes, categories=_index(names))


def _index(texts: Any) -> Any:
    return extra("pandas").Index(list(texts), dtype=object)


def _centroids_um(run: SlideResult) -> npt.NDArray[np.float64]:
    groups = run.table.groups(["geometry"])
    parts = [shapely.get_coordinates(shapely.centroid(polygons_of(group))) for group in groups]
    return np.concatenate([np.empty((0, 2)), *parts]) * [run.mpp.x, run.mpp.y]


def _probabilities(run: SlideResult) -> dict[str, npt.NDArray[np.float32]]:
    columns = [run.table.column(PROBABILITY + name).to_numpy() for name in run.table.classes]
    return {"probabilities": np.column_stack(columns)} if columns else {}


def _facts(run: SlideResult) -> dict[str, Any]:
    facts = {"version": __version__, "unit": "µm, QuPath origin", **run.table.facts}
    classes = {"classes": np.array(run.table.classes, object)} if run.table.classes else {}
    return classes | {"wsi_engine": json.dumps(facts, ensure_ascii=False)}
