"""Small test sets of pairs, and real programs that upscale image files, well or badly."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np

from dan_fast.evaluation.measure import bicubic
from dan_fast.image_files import read_image, write_image
from support.image_sets import write_random

# Bodies of Python programs, which are called with the names of two files and the scale.
TOOLS = {
    "good": "from PIL import Image\n"
            "image = Image.open(source)\n"
            "image.resize([side * int(scale) for side in image.size], Image.BICUBIC).save(target)\n",
    "failing": "print('', file=sys.stderr)\nprint('no such model: x', file=sys.stderr)\n"
               "print('more', file=sys.stderr)\nsys.exit(3)\n",
    "hanging": "import subprocess, time\n"
               "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
               "print(child.pid, file=open(folder + '/child', 'w'), flush=True)\n"
               "print('waiting for a licence', file=sys.stderr, flush=True)\ntime.sleep(600)\n",
    "silent": "print('nothing to do', file=sys.stderr)\n",
    "small": "from PIL import Image\nImage.new('RGB', (5, 7)).save(target)\n",
    "damaged": "open(target, 'wb').write(b'no image')\n",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n",
    # Fails over images of 12 pixels height.
    "choosy": "from PIL import Image\nimage = Image.open(source)\n"
              "if image.height == 12: sys.exit('12 is too low')\n"
              "image.resize([side * int(scale) for side in image.size]).save(target)\n",
}


def write_pair(folder: Path, low: str, sharp: str, *, scale: int = 4, seed: int = 0, height: int = 48, width: int = 40,
               spare: int = 0) -> None:
    """Write ``sharp`` with ``spare`` more rows and columns than are in ``low``, its half, third or quarter."""
    write_random(folder / sharp, height + spare, width + spare, seed)
    hr = read_image(folder / sharp).rgb[:height, :width]
    blocks = hr.reshape(height // scale, scale, width // scale, scale, 3).mean((1, 3))
    write_image(folder / low, np.rint(blocks).astype(np.uint8))


def write_result(folder: Path, low: str, result: str, scale: int = 4) -> None:
    """Write ``result``, the image ``low`` upscaled by bicubic."""
    write_image(folder / result, bicubic(read_image(folder / low).rgb, scale))


def tool(folder: Path, name: str) -> str:
    """The command line of a program of ``TOOLS``, which is written to ``folder``."""
    path = folder / "my tools" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"import sys\nsource, target, scale = sys.argv[1:]\nfolder = {str(folder)!r}\n{TOOLS[name]}")
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))} {{in}} {{out}} {{scale}}"
