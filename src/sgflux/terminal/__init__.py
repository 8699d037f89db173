"""Output, errors and printable text of a terminal."""
