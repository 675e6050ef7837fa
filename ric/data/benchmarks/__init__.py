"""Benchmarks as DATA in the layouts in which they are released: one file each, a row in a table."""
