"""Families of base models: everything that holds for one of them alone."""
