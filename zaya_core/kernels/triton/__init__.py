"""The steps of ZAYA's layers as kernels for NVIDIA and AMD cards, one step a file, and for Triton's interpreter.

Triton is no dependency of a CPU: modules of this folder are imported only where a card is to compute.

Rows of a step of one token are 1 to 16. A row at position -1 is none: it fills a program up, reads and writes nothing
of its own, and its numbers are finite and thrown away.
"""
