"""What is asked: a body within bounds, judged field by field, and the engine's made of it."""
