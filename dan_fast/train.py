"""``python -m dan_fast.train``: the same as ``dan-fast train``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["train"]
    sys.exit(main())
