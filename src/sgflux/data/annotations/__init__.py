"""Annotated relationships of any source, as splits and rows of a data set.

A reader reads a source into a ``table``; ``filters`` drops what is of no use and counts it;
``splits`` chooses; ``rows`` words the chosen; ``dataset`` writes all of it.
"""
