"""The two streams and the screen: what is printed, how, and what never reaches a terminal."""
