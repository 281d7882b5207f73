"""What QuPath makes of a GeoJSON file, one rule for each thing that can go wrong.

A rule is a line of a table (name, severity by version of QuPath, what QuPath does, what to do
about it) with a small function below it that finds the thing. The files are named after what
their rules look at: `container`, `feature`, `properties`, `classification`, `measurements`,
`geometry` (as it is written), `shape` (as it is drawn) and `repetition` (among features).

The rules were established by running QuPath's core 0.2.3 to 0.7.0 on the same files and by
reading its source; where an old version was not tried, it is taken to do what its successor does.
"""
