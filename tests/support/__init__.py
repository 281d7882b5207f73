"""What several tests use: slides, results and objects made by hand."""
