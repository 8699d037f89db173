"""FLUX.1: schnell, dev, and the bundled tiny-flux."""
