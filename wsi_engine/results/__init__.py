"""The folder of a result: its layout, its record, its files, and one reader."""
