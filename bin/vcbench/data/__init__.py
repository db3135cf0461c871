"""Simulated and user data: checks, normalisation, the canonical dataset file."""
