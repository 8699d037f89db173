"""Training: of adapters, and of the bundled base model."""
