"""ESM2 (Lin et al., Science 2023, doi:10.1126/science.ade2574): 8M to 15B."""
