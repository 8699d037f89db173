"""Visual Genome, in the two forms that exist, as splits and rows that can be trusted.

``raw`` and ``h5`` read a form into a ``table``; ``filters`` drops what is of no use and counts it;
``splits`` chooses; ``rows`` words the chosen; ``dataset`` writes all of it.
"""
