"""What survives a crash: the tiles of a run on disk, and the journal that vouches for them."""
