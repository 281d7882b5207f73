"""Training of the star-convex network and evaluation of any segmentation.

``config`` says what to do. ``drawings`` tells nuclei from fields in what QuPath exports,
``slides`` reads the fields' pixels, ``datasets`` gathers sets and splits them by patient.
``sampling`` chooses a place, ``warp`` and ``augment`` turn it into a crop, ``targets`` says
what the network should answer there, ``batches`` makes step *n* of a run a pure function of
the seed, ``train`` runs, ``metrics`` measures.
"""
