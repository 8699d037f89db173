"""Tests of the scene graphs."""
