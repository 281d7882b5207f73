"""Any JSON value, for properties that must hold of whatever a file contains."""

from __future__ import annotations

from hypothesis import strategies as st

NAMES = st.sampled_from(
    [
        *("type", "id", "geometry", "nucleusGeometry", "properties", "features", "coordinates"),
        *("objectType", "name", "names", "color", "colorRGB", "classification", "parentClass"),
        *("measurements", "metadata", "isLocked", "isMissing", "childObjects", "value", "plane"),
        *("isEllipse", "geometries", "z", "bbox", "area", "", "µ"),
    ]
)
WORDS = st.sampled_from(
    [
        *("Feature", "FeatureCollection", "Polygon", "MultiPolygon", "LineString", "Point"),
        *("MultiPoint", "MultiLineString", "GeometryCollection", "annotation", "cell"),
        *("tmaCore", "root", "NaN", "Infinity", "1.5", "1-1-1-1-1", "#ff0000", ": a :", "\n"),
    ]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.integers(-3, 300), WORDS, st.text()
)


def json_values(leaves: st.SearchStrategy = SCALARS) -> st.SearchStrategy:
    """Values of any shape, with the names that QuPath looks for."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=5), st.dictionaries(NAMES | st.text(), inner, max_size=5)
        ),
        max_leaves=15,
    )
