"""Virtual cell models and baselines, one file each."""
