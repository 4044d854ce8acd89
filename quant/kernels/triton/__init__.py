"""Kernels for NVIDIA and AMD cards, one source for both and for Triton's interpreter. They know matrices, not models.

Triton is no dependency of a CPU: modules of this folder are imported only where a card is to compute.
"""
