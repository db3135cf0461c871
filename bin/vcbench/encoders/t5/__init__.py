"""T5 encoders: ProtT5 XL and XXL, Ankh3 Large (specs: plm_encoders.md 2.3, 2.5); the entry's `tokens` says which."""
