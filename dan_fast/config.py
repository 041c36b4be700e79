"""What a DAN network looks like: one frozen dataclass, validated when it is made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

VERSIONS = ("v1", "v2")
SCALES = (2, 3, 4)
UPSAMPLERS = ("published", "direct")
GROUP_RESIDUALS = ("doubled", "plain")
GRADIENTS = ("last", "all")


@dataclass(frozen=True)
class DANConfig:
    """Shape and behaviour of a DAN network.

    The defaults are the published network of the version: v2 (arXiv 2105.06878) or v1
    (arXiv 2010.02631). ``None`` means "what this version published".

    Args:
        version: ``"v2"`` (dual-path blocks, estimates the kernel) or ``"v1"`` (conditional
            residual blocks, estimates the code only).
        scale: upscaling factor, 2, 3 or 4.
        image_channels: 3 for colour (RGB), 1 for grey.
        channels: width C of the Restorer.
        groups: number of block groups (DPCG) in the Restorer, v2: 5; v1 has none: 0.
        blocks: blocks per group (v2: 10) or in all (v1: 40).
        estimator_channels: width of the Estimator.
        estimator_blocks: blocks of the Estimator.
        kernel_size: side k of the blur kernel in HR pixels.
        code_length: length c of the reduced kernel code.
        iterations: how often Restorer and Estimator alternate; free at run time.
        group_residual: ``"doubled"``: a group returns twice its body's output, which is what
            the published v2 weights were trained with; ``"plain"``: input + body, as the paper
            draws it. v1 has no groups and ignores it.
        upsampler: ``"published"``: convolutions at growing resolution; ``"direct"``: one
            convolution and one PixelShuffle, added to the bicubically upscaled input (ours,
            for small and fast networks).
        gradient: ``"last"``: only the last iteration learns, as published; ``"all"``: gradients
            flow through every iteration, end to end.

    Raises:
        ValueError: a field is unknown, impossible, or contradicts another; the message names it.
    """

    version: str = "v2"
    scale: int = 4
    image_channels: int = 3
    channels: int = 64
    groups: int = None  # type: ignore[assignment]  # filled in by version
    blocks: int = None  # type: ignore[assignment]
    estimator_channels: int = 32
    estimator_blocks: int = 5
    kernel_size: int = 21
    code_length: int = 10
    iterations: int = 4
    group_residual: str = "doubled"
    upsampler: str = "published"
    gradient: str = "last"

    def __init__(self, **values: Any) -> None:
        known = {f.name: f.default for f in fields(type(self))}
        for name in values:
            if name not in known:
                raise ValueError(f"DANConfig has no field {name!r}; its fields are {', '.join(known)}")
        for name, default in known.items():
            object.__setattr__(self, name, values.get(name, default))
        self._fill_in_published_depth()
        self._validate()

    def _fill_in_published_depth(self) -> None:
        v1 = self.version == "v1"
        if self.groups is None:
            object.__setattr__(self, "groups", 0 if v1 else 5)
        if self.blocks is None:
            object.__setattr__(self, "blocks", 40 if v1 else 10)

    def _validate(self) -> None:
        self._choice("version", VERSIONS)
        self._choice("scale", SCALES)
        self._choice("image_channels", (1, 3))
        self._choice("group_residual", GROUP_RESIDUALS)
        self._choice("upsampler", UPSAMPLERS)
        self._choice("gradient", GRADIENTS)
        for name in ("channels", "blocks", "estimator_channels", "estimator_blocks",
                     "kernel_size", "code_length", "iterations"):
            self._positive(name)
        if self.version == "v1":
            if self.groups != 0:
                raise ValueError(f"groups={self.groups!r}: v1 has no groups, expected 0")
            # The channel attention squeezes by 16 (16 -> 1); fewer channels leave nothing.
            for name in ("channels", "estimator_channels"):
                if getattr(self, name) < 16:
                    raise ValueError(f"{name}={getattr(self, name)}: v1's channel attention squeezes by 16, "
                                     "expected at least 16")
        else:
            self._positive("groups")
        if self.code_length > self.kernel_size**2:
            raise ValueError(f"code_length={self.code_length}: a {self.kernel_size}x{self.kernel_size} kernel "
                             f"has only {self.kernel_size**2} values")

    def _choice(self, name: str, allowed: tuple) -> None:
        value = getattr(self, name)
        # type() as well: True == 1 and 4.0 == 4, yet neither is a scale
        if not any(value == a and type(value) is type(a) for a in allowed):
            raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, allowed))}")

    def _positive(self, name: str) -> None:
        value = getattr(self, name)
        if type(value) is not int or value < 1:
            raise ValueError(f"{name}={value!r}: expected a whole number of at least 1")
