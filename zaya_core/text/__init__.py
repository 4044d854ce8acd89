"""Between text and token ids: tokenizer, chat template, messages, and the way back."""
