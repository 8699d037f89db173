"""The model card of a finished adapter, and the picture that goes with it."""
