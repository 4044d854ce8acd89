"""Speed, memory and correctness of this installation."""
