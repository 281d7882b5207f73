"""The way back from QuPath: what was corrected there, and how a result takes it in."""
