"""The process and its devices: threads, forks, CUDA graphs, warnings."""
