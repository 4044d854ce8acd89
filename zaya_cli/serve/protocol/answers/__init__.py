"""From the Engine's events to answers and their chunks."""
