"""Weights as others publish them: one file a format, each a table that reads both ways."""
