"""Training of the star-convex network.

``config`` says what to do. ``slides`` reads the pixels of annotated fields, ``datasets`` gathers
sets and splits them by patient. ``sampling`` chooses a place, ``warp`` and ``augment`` turn it
into a crop, ``targets`` says what the network should answer there, ``batches`` makes step *n* of
a run a pure function of the seed, ``train`` runs, ``validate`` measures.
"""
