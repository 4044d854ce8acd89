"""What this machine offers: device, memory, bandwidth, and whether a model fits."""
