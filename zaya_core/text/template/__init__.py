"""Chat templates: foreign programs in a sandbox, whose control tokens are told from what people write."""
