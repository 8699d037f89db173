"""Training of adapters: :mod:`~sgflux.training.run` is a run from its settings to its bundle."""
