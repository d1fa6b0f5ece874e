"""The way of single packets through a stack, step by step, for those who ask to see it."""
