"""ZAYA spelled out, one layer type a file, and the seam behind which a device computes it."""
