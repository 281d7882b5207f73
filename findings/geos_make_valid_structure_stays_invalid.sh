#!/bin/sh
# shapely 2.1.2 (GEOS 3.13.1 in its wheel): what make_valid(method="structure") returns may be
# invalid. A ring of six points with two decimals, whose border crosses itself, as the outline of a
# cell may, becomes a polygon that crosses itself within the last bits of a coordinate; union with
# it then raises. The same ring moved to the origin is mended, and so is what was returned when it
# is given to make_valid, or to buffer(0), once more. One expects a valid geometry, always: whoever
# needs one has to ask is_valid of what came back.
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check shapely==2.1.2 numpy==2.2.6
"$scratch/venv/bin/python" - <<'PYTHON'
import shapely

ring = [(17288.21, 1553.01), (17288.89, 1553.89), (17288.63, 1553.61)]
ring += [(17288.37, 1553.37), (17289.27, 1554.27), (17288.44, 1561.0)]


def made(geometry):
    return shapely.make_valid(geometry, method="structure", keep_collapsed=False)


crossed = shapely.Polygon(ring)
near_origin = shapely.Polygon([(round(x - 17288, 2), round(y - 1553, 2)) for x, y in ring])
once = made(crossed)
try:
    shapely.union(once, shapely.box(17288, 1554, 17289, 1560))
    union = "works"
except shapely.errors.GEOSException as error:
    union = str(error).partition(":")[0]
seen = {
    "once": once.is_valid,
    "by linework": shapely.make_valid(crossed).is_valid,
    "near the origin": made(near_origin).is_valid,
    "twice": made(once).is_valid,
    "once, then buffer(0)": shapely.buffer(once, 0).is_valid,
}
print("GEOS", shapely.geos_version_string, seen, "union:", union)
assert shapely.geos_version == (3, 13, 1)
assert [*seen.values()] == [False, True, True, True, True]
assert union == "TopologyException"
PYTHON
