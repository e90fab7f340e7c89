"""Scores by one written-down protocol, so that numbers can be compared."""
