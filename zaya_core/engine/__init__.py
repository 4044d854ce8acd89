"""The scheduler: requests come in, rows are batched, events come out."""
