"""Many slides: which there are, who does which, what became of each."""
