"""A model's folder, weights and adapters, looked over before a start."""
