"""Cross-validation splits and the leakage report."""
