"""Checks that run before anything expensive: model files by their headers, data by its rows."""
