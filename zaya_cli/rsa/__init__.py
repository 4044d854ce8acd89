"""Markovian RSA for a terminal: flags, generator, live table, answer."""
