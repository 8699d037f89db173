"""Files: whole writes, locks, leftovers, JSON, and headers of weights."""
