"""One replica: vLLM, its API behind a secret, its slots, and whether it stands still."""
