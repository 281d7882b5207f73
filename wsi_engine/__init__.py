"""Whole slide in, every nucleus out: a QuPath-interoperable whole-slide processing engine.

The way of the data, left to right, no way back::

    slide/ -> schedule/ -> models/ -> nuclei/ -> store/ -> results/
    pixels    tiles,       maps,      columns    parts +   the folder of a slide:
              batches      polygons              journal   GeoJSON, table, record

``engine/`` wires the stages together, ``cli/`` parses and prints, ``config.py`` holds every
setting once.

The names are listed in ``__init__.pyi`` and imported when they are first used (SPEC 1 of
Scientific Python), so that reading a GeoJSON file does not wait for torch.
"""

import lazy_loader

from wsi_engine.kernel_cache import keep_numba_plain, provide_kernel_cache

provide_kernel_cache()
keep_numba_plain()

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
