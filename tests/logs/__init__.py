"""What is logged, in which form, and what happens if nobody reads it."""
