"""tiny-flux: the recipe that trains the bundled FLUX, and the gate that it must pass."""
