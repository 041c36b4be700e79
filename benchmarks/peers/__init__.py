"""Other x4 networks beside ours, on the same degraded images: ``python -m benchmarks.peers --data DIR``."""
