"""``python -m dan_fast.train``: the same as ``dan-fast train``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
