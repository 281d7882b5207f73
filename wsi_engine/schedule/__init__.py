"""Tiles and their way through the threads and devices; knows nothing of nuclei."""
