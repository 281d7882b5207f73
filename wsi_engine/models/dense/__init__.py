"""Methods whose network answers for every pixel: one file each, and what they share.

``fcn``, ``unet``, ``cnn_watershed``, ``two_stage`` and ``contour_aware`` are the methods. Each
says its facts, the shape of its network, what the network learns (targets and loss), and how
its maps become polygons. ``networks`` builds the networks, ``model`` runs them behind the
engine's protocol, ``label_geometry`` and ``losses`` are what targets and losses are made of.
"""
