"""Is everything right with a model on this machine: its tokens, its numbers, and what is computed from them."""
