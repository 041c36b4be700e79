"""Ways in which a tensor's values may lie in memory."""

from __future__ import annotations

import pytest

# ``of`` returns a view of an image, or a copy, with other strides.
any_layout = pytest.mark.parametrize("of", [
    lambda x: x.contiguous(),
    lambda x: x.transpose(2, 3),
    lambda x: x[:, :, 1:, ::2],
    lambda x: x[:1].expand_as(x),
], ids=["contiguous", "transposed", "sliced", "expanded"])
