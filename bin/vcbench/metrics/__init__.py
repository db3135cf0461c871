"""Truth tables and metrics."""
