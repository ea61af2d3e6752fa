"""The engine behind receptive fields: which pixels every value of a program depends on, equation by equation."""
