"""The batches of a run: which examples they have, and what is drawn about each."""
