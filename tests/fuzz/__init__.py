"""Broken files made from sound ones, read in child processes: every one must decode or be refused in one line."""
