"""Fold batch norms exactly, and prove it."""
