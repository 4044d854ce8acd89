"""The choice of tokens on a card: `draw_sorted` of `zaya_core/sampling/sorted.py` without sorting."""
