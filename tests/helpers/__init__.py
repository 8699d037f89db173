"""Builders and stand-ins that several tests share; no test imports from another test."""
