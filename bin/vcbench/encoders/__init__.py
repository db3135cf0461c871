"""Encoders: one vector per perturbation."""
