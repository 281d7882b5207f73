"""Processes and devices that compute the tiles of one slide."""
