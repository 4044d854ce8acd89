"""Kernels for cards: in the interpreter, under its sanitizer, and compiled for cards that are not here."""
