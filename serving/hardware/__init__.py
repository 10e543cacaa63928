"""Processors and GPUs: which there are, and which of them a replica may use."""
