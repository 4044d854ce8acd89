"""Implementations of the model's steps, and the choice among them."""
