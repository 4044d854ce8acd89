"""Markovian RSA for a terminal: who generates, the live table, the answer and its JSON."""
