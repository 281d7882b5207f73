"""Between the files of QuPath and those of other tools: readers, writers, one ``convert``."""
