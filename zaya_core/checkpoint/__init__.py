"""Safetensors files of a model folder: names and shapes, opening, writing, fingerprints."""
