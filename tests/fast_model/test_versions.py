"""The registry of versions: every one that a config may have has all parts, and they are used."""

from __future__ import annotations

import pytest
import torch
from support.networks import tiny_config

from dan_fast import checkpoint
from dan_fast.config import VERSIONS, DANConfig
from dan_fast.fast_model import cost, v2
from dan_fast.fast_model.learning import iteration
from dan_fast.fast_model.parts import Parts
from dan_fast.fast_model.plan import Plan
from dan_fast.fast_model.reach import network_reach
from dan_fast.fast_model.versions import PARTS, parts_of, plan_for
from dan_fast.model import DAN
from dan_fast.model.dan import MODULES


def test_every_version_is_registered():
    assert set(PARTS) == set(MODULES) == set(checkpoint._NAMES) == set(VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_part_is_there(version):
    config = tiny_config(version=version, groups=2 if version == "v2" else 0)
    model, lr = DAN(config).eval(), torch.rand(1, 3, 6, 7)
    assert type(plan_for(model)) is parts_of(config).plan
    assert network_reach(config) > 0
    assert 0 < cost.planned(config, wants_kernel=True, winograd=True) < cost.published(config)
    expected = model.step(lr, model.init_ker_map)
    torch.testing.assert_close(iteration(model, lr, model.init_ker_map).sr, expected.sr)


@pytest.mark.parametrize("name", Parts._fields)
def test_a_version_without_a_part_is_refused(name):
    parts = v2.PARTS._asdict()
    del parts[name]
    with pytest.raises(TypeError, match=name):
        Parts(**parts)


def test_a_plan_without_a_part_is_refused():
    class Half(Plan):
        """Like ``PlanV2``, with no Estimator."""

        off_image = v2.PlanV2.off_image

        def condition(self, code):
            return code

        def _body(self, head, condition):
            return head

    with pytest.raises(TypeError, match="_estimator_body"):
        Half(DAN(tiny_config()))


def test_the_published_network_sees_as_far_as_is_said():
    assert network_reach(DANConfig()) == 117
