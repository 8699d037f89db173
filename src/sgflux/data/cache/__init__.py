"""The cache of encoded pictures and texts: its keys, files, and what a data set needs encoded."""
