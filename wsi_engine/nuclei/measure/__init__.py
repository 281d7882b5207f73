"""Measurements of nuclei, from their polygons and from the pixels of the tile.

Columns are described where they are computed (`shape`, `colour`, `texture`, `ring`); `measurer`
puts the groups together and fills them for a tile.

Measured against one another over the whole slide (density, neighbours, Voronoi cells) is what
no tile can know: that comes after the seams.
"""
