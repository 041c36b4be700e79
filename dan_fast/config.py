"""The shape of a DAN network: one frozen dataclass, validated when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

VERSIONS = ("v1", "v2")
SCALES = (2, 3, 4)
UPSAMPLERS = ("published", "direct")
GROUP_RESIDUALS = ("doubled", "plain")
GRADIENTS = ("last", "all")


def field_help(kind: type) -> dict[str, str]:
    """The help text of each field of the dataclass ``kind``, by name: ``metadata["help"]``."""
    return {entry.name: entry.metadata["help"] for entry in fields(kind)}


class _KnownFields:
    """Refuses a field that does not exist with ValueError, as the dataclass below refuses an impossible value."""

    def __new__(cls, *args: Any, **values: Any) -> Any:
        known = [entry.name for entry in fields(cls)]  # type: ignore[arg-type]
        for name in values:
            if name not in known:
                raise ValueError(f"{cls.__name__} has no field {name!r}; its fields are {', '.join(known)}")
        return super().__new__(cls)


@dataclass(frozen=True, kw_only=True)
class DANConfig(_KnownFields):
    """Shape and behaviour of a DAN network.

    The defaults are the published networks: v2 (arXiv 2105.06878) or v1 (arXiv 2010.02631). What the fields mean
    stands beside them.

    Raises:
        ValueError: a field is unknown, impossible, or contradicts another; the message names it.
    """

    version: str = field(default="v2", metadata={
        "help": "v2 (dual-path blocks, estimates the kernel) or v1 (conditional residual blocks, estimates the code "
                "only)"})
    scale: int = field(default=4, metadata={"help": "upscaling factor, 2, 3 or 4"})
    image_channels: int = field(default=3, metadata={"help": "3 for colour (RGB), 1 for grey"})
    channels: int = field(default=64, metadata={"help": "width C of the Restorer"})
    groups: int = field(default=None, metadata={  # type: ignore[assignment]  # __post_init__ resolves None
        "help": "block groups (DPCG) of the Restorer; default: as published, v2: 5, v1 has none: 0"})
    blocks: int = field(default=None, metadata={  # type: ignore[assignment]
        "help": "blocks per group (v2) or in all (v1); default: as published, v2: 10, v1: 40"})
    estimator_channels: int = field(default=32, metadata={"help": "width of the Estimator"})
    estimator_blocks: int = field(default=5, metadata={"help": "blocks of the Estimator"})
    kernel_size: int = field(default=21, metadata={"help": "side k of the blur kernel, HR pixels"})
    code_length: int = field(default=10, metadata={"help": "length c of the reduced kernel code"})
    iterations: int = field(default=4, metadata={
        "help": "how often Restorer and Estimator alternate; it can be another number at run time"})
    group_residual: str = field(default="doubled", metadata={
        "help": "doubled: a group returns twice its body's output, which the published v2 weights were trained with; "
                "plain: its input + its body's output, as the paper draws it; v1 has no groups and ignores it"})
    upsampler: str = field(default="published", metadata={
        "help": "published: convolutions at growing resolution; direct: one convolution and one PixelShuffle, added to "
                "the bicubically upscaled input (ours, for small and fast networks)"})
    gradient: str = field(default="last", metadata={
        "help": "last: only the last iteration learns, as published; all: gradients flow through every iteration, end "
                "to end"})
    refiner_channels: int = field(default=0, metadata={
        "help": "width of the Refiner (ours), a second body of DPCGs that improves the last iteration's result once, "
                "with the same code; v2 only; 0: none, as published"})
    refiner_groups: int = field(default=0, metadata={"help": "block groups of the Refiner; 0 without one"})
    refiner_blocks: int = field(default=0, metadata={"help": "blocks per group of the Refiner; 0 without one"})

    def __post_init__(self) -> None:
        v1 = self.version == "v1"
        for name, published in (("groups", 0 if v1 else 5), ("blocks", 40 if v1 else 10)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, published)
        self._validate()

    @property
    def refiner(self) -> DANConfig | None:
        """The shape of the Refiner as that of a network with such a Restorer; ``None``: there is none."""
        if not self.refiner_channels:
            return None
        return replace(self, channels=self.refiner_channels, groups=self.refiner_groups, blocks=self.refiner_blocks,
                       upsampler="direct", group_residual="plain",
                       refiner_channels=0, refiner_groups=0, refiner_blocks=0)

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
        self._validate_refiner()
        if self.code_length > self.kernel_size**2:
            raise ValueError(f"code_length={self.code_length}: a {self.kernel_size}x{self.kernel_size} kernel "
                             f"has only {self.kernel_size**2} values")

    def _validate_refiner(self) -> None:
        names = "refiner_channels", "refiner_groups", "refiner_blocks"
        if all(getattr(self, name) == 0 and type(getattr(self, name)) is int for name in names):
            return
        for name in names:
            self._positive(name, "; all three fields of the Refiner, or 0 in all three")
        if self.version == "v1":
            raise ValueError(f"refiner_channels={self.refiner_channels}: v1 has no Refiner, expected 0")

    def _choice(self, name: str, allowed: tuple) -> None:
        value = getattr(self, name)
        # The type must match too: True == 1 and 4.0 == 4, yet neither is a scale.
        if not any(value == a and type(value) is type(a) for a in allowed):
            raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, allowed))}")

    def _positive(self, name: str, remark: str = "") -> None:
        value = getattr(self, name)
        if type(value) is not int or value < 1:
            raise ValueError(f"{name}={value!r}: expected a whole number of at least 1{remark}")
