"""Intervals, paired contrasts, aggregation."""
