"""The folder layouts that are read without code, one file each with `read(folder) -> Dataset | None`."""
