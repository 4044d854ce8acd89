"""Markovian RSA as a field of a chat: what is asked, the run over the service's jobs, and how its answer is told."""
