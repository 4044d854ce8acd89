"""The endpoints: each takes a request apart by `protocol`, and has the Service do it."""
