"""ZAYA's steps for NVIDIA and AMD cards; see `quant/kernels/triton`. Imported only where a card is to compute."""
