"""`floodgate up`, `down` and `status`: a run's processes started in order, kept and ended."""
