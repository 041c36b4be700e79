"""The blur kernels: made, read from files, padded, shifted, and encoded as what the networks see."""
