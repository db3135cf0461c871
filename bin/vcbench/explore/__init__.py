"""Optional analyses: what predictions say about known function, learning curves, atlases of all substitutions."""
