"""Protein variants: parsing, proteins, validation."""
