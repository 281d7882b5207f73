"""``starconvex``: star-convex polygons straight from the decoder.

`spec` states the facts, `network` is the U-Net, `decoding` turns its maps into polygons, `model`
runs both behind the engine's protocol; `learning`, `targets` and `losses` are what it learns.

References
----------
Schmidt U, Weigert M, Broaddus C, Myers G. Cell detection with star-convex polygons. MICCAI
2018:265-273.
"""
