"""xTrimoPGLM masked language models (Chen et al., Nature Methods 2025, doi:10.1038/s41592-025-02636-z)."""
