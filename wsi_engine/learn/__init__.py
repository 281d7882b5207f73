"""Learning from annotated nuclei, and judging what was learnt."""
