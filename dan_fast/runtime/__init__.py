"""The process and its devices: threads, forks, CUDA graphs, memory, time, and silenced libraries."""
