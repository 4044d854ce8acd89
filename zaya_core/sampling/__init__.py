"""From logits to the next token: parameters, penalties, keyed random numbers, and the choice on any device."""
