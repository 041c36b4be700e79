"""Blur kernels: made, read from files, padded, centred, and encoded for the networks."""
