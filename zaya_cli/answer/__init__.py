"""What is asked, and an answer as it is shown or printed."""
