"""What protein language models share: weights, token layouts, windows, batches, from requests to vectors."""
