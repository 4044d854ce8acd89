"""Products on each device, and which of them run here."""
