"""Tests of sgflux.data."""
