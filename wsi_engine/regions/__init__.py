"""Numbers per region, per slide and per cohort, from finished results."""
