"""The check of zaya's kernels on a card, as a program of its own: `python -m zaya_core.measure.card_check`.

It may crash or hang; `zaya_core/machine/kernel_check.py` runs it, listens, and ends it. Nothing but this program
imports the modules with checks, which import Triton's.
"""
