"""ESM C (ESM Team, ESM Cambrian, 2024): 300M and 600M."""
