"""A training run from its configuration to its bundle; nothing else in training/ sees all of it."""
