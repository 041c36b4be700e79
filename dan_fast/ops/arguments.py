"""The one checker of operators' arguments: its messages name the value, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ..config import GROUP_RESIDUALS

Shape = tuple[int | str, ...]
Value = Tensor | Sequence[Tensor] | None
IMAGE: Shape = ("B", "C", "H", "W")


def check_tensors(expected: Mapping[str, tuple[Value, Shape]], *, same_dtype: Sequence[str] = (),
                  may_be_empty: bool = False, advice: str = "reshape or expand it") -> dict[str, int]:
    """Raises ``ValueError`` unless all tensors fit together; the first one decides about device and dtype.

    Args:
        expected: by name a tensor, or a list of one tensor for each block, or None for what was left out; and its
            shape, in which a letter stands for any size, the same wherever it occurs.
        same_dtype: names of those that must have the first tensor's dtype; the others may be of any floating point.
        may_be_empty: sizes may be 0.
        advice: what to do about a wrong shape.

    Returns:
        The sizes by letter; ``"N"`` is the number of blocks where there are lists.
    """
    sizes: dict[str, int] = {}
    checked: list[tuple[str, str, Tensor, Shape]] = []
    for name, (value, shape) in expected.items():
        if isinstance(value, Tensor):
            checked.append((name, name, value, shape))
        elif value is not None:
            count = sizes.setdefault("N", len(value))
            if len(value) != count or not count:
                raise ValueError(f"{name} has {len(value)} tensors for {count} blocks, expected one for each, "
                                 f"at least 1: {advice}")
            checked += [(name, f"{name}[{n}]", tensor, shape) for n, tensor in enumerate(value)]
    first, _, main, _ = checked[0]
    for name, title, tensor, shape in checked:
        _check_shape(title, tensor, shape, sizes, may_be_empty, advice)
        if not tensor.is_floating_point():
            raise ValueError(f"{title} is {tensor.dtype}, expected floating point: convert it with .float()")
        if tensor.device != main.device:
            raise ValueError(f"{title} is on {tensor.device} and {first} on {main.device}, expected the same: "
                             f"{title}.to({first}.device)")
        if name in same_dtype and tensor.dtype != main.dtype:
            raise ValueError(f"{title} is {tensor.dtype} and {first} {main.dtype}, expected the same: "
                             f"{title}.to({first}.dtype)")
    return sizes


def _check_shape(title: str, tensor: Tensor, shape: Shape, sizes: dict[str, int], may_be_empty: bool, advice: str
                 ) -> None:
    """Raises ``ValueError`` unless the tensor has the shape; adds the sizes of letters that are new to ``sizes``."""
    found = tuple(tensor.shape)
    fits = len(found) == len(shape) and (may_be_empty or 0 not in found)
    known = dict(sizes)
    if fits:
        for letter, size in zip(shape, found, strict=True):
            if size != (known.setdefault(letter, size) if isinstance(letter, str) else letter):
                fits = False
    if fits:
        sizes.update(known)
        return
    wanted = ", ".join(str(known.get(size, size) if isinstance(size, str) else size) for size in shape)
    given = ", ".join(f"{letter}={sizes[letter]}" for letter in dict.fromkeys(shape)
                      if isinstance(letter, str) and letter in sizes)
    if shape[0] == "B" and len(found) == len(shape) - 1:
        advice = f"add a batch dimension with {title}[None]"
    raise ValueError(f"{title} has shape {found}, expected ({wanted}{',' * (len(shape) == 1)})"
                     f"{f' with {given}' if given else ''}{'' if may_be_empty else ', no size 0'}: {advice}")


def check_groups(blocks: int, count: int, group_residual: str) -> None:
    """Raises ``ValueError`` unless groups of ``blocks`` make up all ``count`` and ``group_residual`` is known."""
    if type(blocks) is not int or blocks < 1 or count % blocks or not count:
        raise ValueError(f"blocks={blocks!r}: expected a whole number of blocks per group that divides all N={count}")
    check_group_residual(group_residual)


def check_group_residual(value: str) -> None:
    """Raises ``ValueError`` unless it is one that a config may have."""
    if value not in GROUP_RESIDUALS:
        raise ValueError(f"group_residual={value!r}: expected one of {', '.join(map(repr, GROUP_RESIDUALS))}")


def refuse_gradient(op: str, tensors: Iterable[Tensor], instead: str = "") -> None:
    """Raises ``ValueError`` if a gradient would be asked for: ``op`` is for inference.

    Args:
        instead: what has a gradient; default: the reference.
    """
    if needs_gradient(*tensors):
        raise ValueError(f"{op} has no gradient and an argument requires one: call it under torch.no_grad() or "
                         f"torch.inference_mode(), or take {instead or f'{op}_ref'}")


def needs_gradient(*tensors: Tensor) -> bool:
    """Whether a gradient will be asked for."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def flattened(lists: Iterable[Sequence[Tensor]]) -> list[Tensor]:
    """The tensors of all lists, one after the other."""
    return [tensor for tensors in lists for tensor in tensors]
