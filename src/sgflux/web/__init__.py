"""The page of ``sgflux page``: drawing graphs, watching trainings, reading evaluations."""
