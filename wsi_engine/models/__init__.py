"""Models behind one protocol: pixels to maps, maps to polygons; by name from the registry."""
