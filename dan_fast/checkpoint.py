"""Loads and saves weights: published ``.pth`` files, our ``.safetensors``, and the weights that ship.

A network's shape follows from the names and shapes of its tensors alone. Files are never unpickled beyond plain
tensors, and no more memory is allocated than the file holds.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .config import DANConfig
from .errors import CheckpointError, did_you_mean
from .files import write_atomically
from .model import DAN
from .runtime.silence import quiet_warnings

WEIGHTS = Path(__file__).parent / "weights"
# The best weights for round blur at each scale; "default" is those at x4.
BEST = {4: "v2-1.7M-x4", 3: "v2-1.7M-x3", 2: "v2-1.7M-x2"}
DEFAULT = BEST[4]
METADATA_KEY = "dan_fast.config"
# Fields of the config that do not follow from names and shapes of tensors.
FREE_FIELDS = ("iterations", "gradient", "group_residual")
MOST_ITERATIONS = 1000  # that a file may ask for


class _Names(NamedTuple):
    """Names of the tensors of a version.

    Attributes:
        head: the Restorer's first weight; no other version has a tensor of this name.
        group, block: patterns that find the number of a group (``None``: there are none) and of a block in the names
            of the Restorer's tensors.
        estimator_head, estimator_block: the same in the Estimator.
    """

    head: str
    group: str | None
    block: str
    estimator_head: str
    estimator_block: str


_NAMES = {
    "v2": _Names("Restorer.head1.weight", r"Restorer\.body\.(\d+)\.", r"Restorer\.body\.\d+\.body\.(\d+)\.",
                 "Estimator.head_HR.0.weight", r"Estimator\.body\.body\.(\d+)\."),
    "v1": _Names("Restorer.head.weight", None, r"Restorer\.body\.(\d+)\.",
                 "Estimator.head_HR.weight", r"Estimator\.body\.(\d+)\."),
}

# The Refiner's first weight; networks without one have no tensor of this name.
_REFINER_HEAD = "Refiner.head1.weight"


def available() -> list[str]:
    """The names of the weights that ship; ``"default"`` stands for the best at x4."""
    return ["default", *sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))]


def load(source: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32,
         iterations: int | None = None) -> DAN:
    """A trained network, ready to use (eval mode).

    Args:
        source: a published ``.pth``, our ``.safetensors``, or a name that ``available()`` lists.
        device, dtype: of its parameters.
        iterations: how often Restorer and Estimator alternate; ``None``: the number in the file, or 4 if it has none,
            like published files.

    Raises:
        CheckpointError: there is no such file or name, or the file is not a whole DAN network; the message says what
            is wrong.
    """
    path = weights_file(source)
    state, metadata = _read(path)
    try:
        config = infer_config(state)
        config = _agree_with_metadata(config, metadata)
        if iterations is not None:
            config = replace(config, iterations=iterations)
        model = _build(config, state)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return model.to(device=device, dtype=dtype).eval()


def save(model: DAN, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write ``model`` as ``.safetensors``, with its config, iterations included, in the metadata; whole or not at all.

    Args:
        dtype: of the parameters in the file, floating point; ``None``: as they are. In ``torch.float16`` they take half
            the room and keep 11 significant bits; the PCA basis, on which all codes depend, stays as it is. ``load``
            gives float32 all the same.

    Raises:
        CheckpointError: ``path`` does not end in ``.safetensors``, or a parameter is too large for ``dtype``.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: expected a name that ends in .safetensors")
    metadata = {"format": "pt", METADATA_KEY: json.dumps(asdict(model.config))}
    tensors = to_published(model)
    if dtype is not None:
        for name, _ in model.named_parameters():
            rounded = tensors[name].to(dtype)
            if not dtype.is_floating_point or not torch.equal(rounded.isfinite(), tensors[name].isfinite()):
                raise CheckpointError(f"{name}: {dtype} cannot hold its values: expected torch.float32")
            tensors[name] = rounded
    # safetensors' save_file would write a file that only its owner can read.
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def to_published(model: DAN) -> dict[str, Tensor]:
    """The tensors under the names that the published implementation gives them, contiguous, on the CPU."""
    # Our modules have those names.
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def infer_config(state: Mapping[str, Tensor]) -> DANConfig:
    """The config of the network that ``state`` belongs to, from names and shapes alone.

    Fields that do not follow from them keep their defaults, except ``group_residual``: ``"doubled"`` for the published
    upsampler, as in all published weights, ``"plain"`` for the direct one.

    Raises:
        ValueError: the names are not DAN's, or the shapes fit no DAN.
    """
    found = [version for version, names in _NAMES.items() if names.head in state]
    if not found:
        marks = " or ".join(f"{names.head} ({version})" for version, names in _NAMES.items())
        raise ValueError(f"not a DAN network: expected a tensor {marks}; "
                         f"it has {', '.join(list(state)[:3]) or 'no tensors'}")
    version, names = found[0], _NAMES[found[0]]
    channels, image_channels = _shape(state, names.head, 4)[:2]
    encoder = _shape(state, "encoder", 3)
    kernel_size = math.isqrt(encoder[1])
    if kernel_size**2 != encoder[1]:
        raise ValueError(f"encoder has shape {encoder}: its second size must be a square, kernel_size squared")
    layers = sorted({int(m[1]) for name in state if (m := re.match(r"Restorer\.upscale\.(\d+)\.weight$", name))})
    first = _shape(state, "Restorer.upscale.0.weight", 4)[0]
    upsampler, scale = {
        (0,): ("direct", math.isqrt(first // image_channels)),
        (0, 2): ("published", math.isqrt(first // channels)),
        (0, 2, 4): ("published", 4),
    }.get(tuple(layers), (None, 0))
    if upsampler is None:
        raise ValueError(f"Restorer.upscale has layers {layers}, expected [0], [0, 2] or [0, 2, 4]")
    refiner_channels, refiner_groups, refiner_blocks = _refiner_shape(state)
    return DANConfig(
        version=version, scale=scale, image_channels=image_channels, channels=channels,
        groups=_count(state, names.group) if names.group else 0, blocks=_count(state, names.block),
        estimator_channels=_shape(state, names.estimator_head, 4)[0],
        estimator_blocks=_count(state, names.estimator_block),
        kernel_size=kernel_size, code_length=encoder[2], upsampler=upsampler,
        group_residual="doubled" if upsampler == "published" else "plain",
        refiner_channels=refiner_channels, refiner_groups=refiner_groups, refiner_blocks=refiner_blocks,
    )


def _refiner_shape(state: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """The Refiner's channels, groups and blocks per group; zeros without one."""
    if _REFINER_HEAD not in state:
        return 0, 0, 0
    return (_shape(state, _REFINER_HEAD, 4)[0], _count(state, r"Refiner\.body\.(\d+)\."),
            _count(state, r"Refiner\.body\.\d+\.body\.(\d+)\."))


def _shape(state: Mapping[str, Tensor], name: str, dims: int) -> tuple[int, ...]:
    if name not in state:
        raise ValueError(f"not a whole DAN network: the tensor {name} is missing")
    shape = tuple(state[name].shape)
    if len(shape) != dims or 0 in shape:
        raise ValueError(f"{name} has shape {shape}, expected {dims} dimensions, none of them 0")
    return shape


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number that ``pattern`` finds among the names."""
    found = [int(m[1]) for name in state if (m := re.match(pattern, name))]
    if not found:
        raise ValueError(f"not a whole DAN network: no tensor is named like {pattern}")
    # One stray tensor with a huge number must not make us build that many blocks.
    if max(found) >= len(state):
        raise ValueError(f"block number {max(found)} in a file of {len(state)} tensors: blocks are missing")
    return max(found) + 1


def _agree_with_metadata(config: DANConfig, metadata: Mapping[str, str]) -> DANConfig:
    """``config`` with the ``FREE_FIELDS`` of the metadata, where our own files have some; the others must agree."""
    if METADATA_KEY not in metadata:
        return config
    try:
        noted = DANConfig(**json.loads(metadata[METADATA_KEY]))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"its metadata {METADATA_KEY} cannot be used: {error}") from None
    if noted.iterations > MOST_ITERATIONS:
        raise ValueError(f"its metadata says iterations={noted.iterations}, expected at most {MOST_ITERATIONS}")
    agreed = replace(config, **{name: getattr(noted, name) for name in FREE_FIELDS})
    for field in fields(DANConfig):
        if getattr(noted, field.name) != getattr(agreed, field.name):
            raise ValueError(f"its metadata says {field.name}={getattr(noted, field.name)}, "
                             f"its tensors {getattr(agreed, field.name)}")
    return agreed


def _build(config: DANConfig, state: Mapping[str, Tensor]) -> DAN:
    with torch.device("meta"):
        model = DAN(config, torch.empty(config.kernel_size**2, config.code_length))
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    if missing or unknown:
        what = "is missing" if missing else "does not belong to it"
        raise ValueError(f"not a whole DAN {config.version} x{config.scale}: {len(missing)} tensors are missing and "
                         f"{len(unknown)} are unknown; {(missing or unknown)[0]} {what}")
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(f"its shapes contradict each other: {name} is {tuple(state[name].shape)}, but a "
                             f"{config.version} x{config.scale} with {config.channels} channels, kernel size "
                             f"{config.kernel_size} and code length {config.code_length} has {shape}")
    model.load_state_dict({name: state[name].float().contiguous() for name in expected}, assign=True)
    return model.requires_grad_(True)


def weights_file(source: str | Path) -> Path:
    """The file of weights that are a file, or ship under a name. Raises CheckpointError if there are none."""
    if str(source) in available():
        return WEIGHTS / f"{DEFAULT if str(source) == 'default' else source}.safetensors"
    path = Path(source)
    if not path.is_file():
        raise CheckpointError(f"{source}: neither a file nor the name of shipped weights ({', '.join(available())})"
                              f"{did_you_mean(str(source), available())}")
    return path


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a weights file of either kind."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
        # safetensors: the header's length in 8 bytes, then JSON; torch: a zip or a pickle.
        if start[8:9] == b"{":
            with safetensors.safe_open(path, "pt") as archive:
                state = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
                return _without_prefix(state), archive.metadata() or {}
        _refuse_compression(path)
        with quiet_warnings:  # damaged files cause some
            content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # readers raise anything at all on damaged files
        # PyTorch's own message explains how to run the code in the pickle.
        reason = "more than plain tensors" if isinstance(error, pickle.UnpicklingError) else _first_line(error)
        raise CheckpointError(f"{path}: cannot be read as weights, it is damaged, truncated or of another kind "
                              f"({reason})") from None
    return _plain_state(path, content), {}


def _refuse_compression(path: Path) -> None:
    """Refuse a zip whose parts are larger than the file: PyTorch writes no compressed ones, but would unpack them."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
        if unpacked > path.stat().st_size:
            raise CheckpointError(f"{path}: unpacks {unpacked} bytes from a file of {path.stat().st_size}, expected "
                                  "weights that are not compressed, as torch.save writes them")


def _plain_state(path: Path, content: Any) -> dict[str, Tensor]:
    """The state dict in the content of a ``.pth``, without the wrappers that trainers put around it."""
    for wrapper in ("params_ema", "params", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(
            isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        raise CheckpointError(f"{path}: holds {type(content).__name__}, expected a state dict: names with tensors")
    # A few stored bytes can claim to be a huge tensor (expanded, or shared by many names).
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in content.values())
    if claimed > path.stat().st_size:
        raise CheckpointError(f"{path}: its tensors claim {claimed} bytes, the file has {path.stat().st_size}")
    return _without_prefix(content)


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` without the ``module.`` that DataParallel puts before every name."""
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return "".join(character for character in line if character.isprintable())
