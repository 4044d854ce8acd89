"""`zaya serve`."""
