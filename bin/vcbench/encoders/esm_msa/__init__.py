"""ESM-MSA-1b (Rao et al., ICML 2021, doi:10.1101/2021.02.12.430858): a language model of alignments."""
