"""Quality control of encoders: what their vectors look like before a model sees them (specs: plm_encoders.md 3.2)."""
