"""Training of adapters; :mod:`~sgflux.training.run` goes from settings to a finished bundle."""
