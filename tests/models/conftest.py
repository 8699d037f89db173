"""The fixtures of :mod:`tests.helpers.flux_fixtures`."""

from tests.helpers.flux_fixtures import flux_folder, inputs, names, one_thread_and_a_seed

__all__ = ["flux_folder", "inputs", "names", "one_thread_and_a_seed"]
