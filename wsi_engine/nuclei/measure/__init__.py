"""Measurements of nuclei, from their polygons and from the pixels of the tile.

Columns are described where they are computed (``COLUMNS`` of `shape`, `colour`, `texture`,
`ring`); `groups` puts them together, `measurer` fills them for a tile.

Measured against one another over the whole slide (density, neighbours, Voronoi cells) is what
no tile can know: that comes after the seams.
"""
