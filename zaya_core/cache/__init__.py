"""All state of rows between two passes: paged keys and values, CCA state, kept prefixes."""
