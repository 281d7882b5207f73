"""Training of the star-convex network and evaluation of any segmentation.

``config`` says what to do, ``datasets`` reads annotated fields, ``warp`` and ``augment``
turn a field into a crop, ``targets`` says what the network should answer there, ``batches``
makes step *n* of a run a pure function of the seed, ``train`` runs, ``metrics`` measures.
"""
