"""How good a segmentation is, against the truth; without torch."""
