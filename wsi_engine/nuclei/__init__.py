"""Nuclei as columns: geometry, seams, identity, measurements; knows nothing of files."""
