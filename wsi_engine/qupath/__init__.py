"""The dialect of GeoJSON that QuPath speaks: features, reading, writing."""
