"""A finished slide to look at in a browser: served on this machine, or as static files."""
