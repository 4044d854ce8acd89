"""From the fields of a body to requests to the Engine."""
