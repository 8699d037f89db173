"""What a run will do and cost, and whether its inputs are there, before a model is loaded."""
