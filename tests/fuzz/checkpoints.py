"""Small sound weights files, from which broken ones are made."""

import io
import tempfile
from pathlib import Path

import torch

from dan_fast import checkpoint
from dan_fast.config import DANConfig
from dan_fast.errors import DanFastError
from dan_fast.model import DAN

from .images import refused_in_one_line


def sound_files() -> dict[str, bytes]:
    """Return the files by name; the suffix tells the format."""
    files = {}
    for version, upsampler in (("v1", "published"), ("v2", "direct")):
        config = DANConfig(version=version, channels=16, blocks=1, groups=int(version == "v2"), estimator_channels=16,
                           estimator_blocks=1, kernel_size=5, code_length=3, upsampler=upsampler)
        model = DAN(config, torch.rand(25, 3))
        with tempfile.TemporaryDirectory() as folder:
            checkpoint.save(model, Path(folder) / "a.safetensors")
            files[f"{version}.safetensors"] = (Path(folder) / "a.safetensors").read_bytes()
        state = checkpoint.to_published(model)
        for name, content in (("plain", state), ("wrapped", {"params": {f"module.{k}": v for k, v in state.items()}})):
            for old in (False, True):
                buffer = io.BytesIO()
                torch.save(content, buffer, _use_new_zipfile_serialization=not old)
                files[f"{version}-{name}{'-old' * old}.pth"] = buffer.getvalue()
    return files


def read(path: Path) -> None:
    """Read one file, which must give a network or a ``DanFastError``; raise any other error."""
    with refused_in_one_line(path, DanFastError):
        assert isinstance(checkpoint.load(path), DAN)
