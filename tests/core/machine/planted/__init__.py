"""Programs in place of the check of a card's kernels: what a stranger's card may do."""
