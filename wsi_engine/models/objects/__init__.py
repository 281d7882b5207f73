"""Classes of nuclei from what was measured of them: the classifier, and its file."""
