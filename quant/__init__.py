"""Packed weight matrices and stacks of them: formats, and products on each device.

This room knows no ZAYA, no text and no file names. It imports neither `zaya_core` nor `zaya_cli`.
"""
