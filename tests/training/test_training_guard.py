"""The guard's verdicts on the steps of a run."""

import torch

from dan_fast.training.guard import WINDOW, DivergenceGuard


def judge(guard: DivergenceGuard, *losses: float, norm: float = 1.0) -> list[tuple[bool, bool]]:
    """Return (skipped, diverged) for each step with these losses."""
    verdicts = [guard.judge(torch.tensor(loss), torch.tensor(norm)) for loss in losses]
    return [(bool(skip), bool(diverged)) for skip, diverged in verdicts]


OK, SKIP, DIVERGED = (False, False), (True, False), (True, True)


def test_what_is_not_finite_is_skipped():
    guard = DivergenceGuard(patience=3)
    assert judge(guard, 1.0, float("nan"), float("inf"), 1.0) == [OK, SKIP, SKIP, OK]
    assert judge(guard, 1.0, norm=float("nan")) == [SKIP]


def test_too_many_bad_steps_in_a_row_are_a_divergence_until_reset():
    guard = DivergenceGuard(patience=3)
    assert judge(guard, *[float("nan")] * 3, 1.0, 1.0) == [SKIP, SKIP, DIVERGED, DIVERGED, DIVERGED]
    guard.reset()
    assert judge(guard, 1.0) == [OK]


def test_one_loss_far_off_the_median_is_skipped_and_leaves_no_trace():
    guard = DivergenceGuard()
    assert set(judge(guard, 50.0, *[1.0] * (WINDOW + 10))) == {OK}  # not judged before the window is full
    assert judge(guard, 9.0, 11.0, 1.0) == [OK, SKIP, OK]


def test_a_lasting_rise_is_a_collapse_and_a_slow_fall_is_not():
    guard = DivergenceGuard()
    assert set(judge(guard, *torch.linspace(3, 1, 300).tolist())) == {OK}
    verdicts = judge(guard, *[4.0] * WINDOW)
    assert verdicts[0] == OK and verdicts[-1] == DIVERGED
    assert SKIP not in verdicts
    # The median rises when half of the window is high.
    assert WINDOW // 2 - 2 <= verdicts.index(DIVERGED) <= WINDOW // 2 + 2


def test_state_goes_on_where_it_was():
    guard = DivergenceGuard()
    judge(guard, *torch.rand(170, generator=torch.Generator().manual_seed(1)).tolist(), float("nan"))
    twin = DivergenceGuard()
    twin.load_state_dict({name: tensor.clone() for name, tensor in guard.state_dict().items()})
    rest = [*torch.rand(30).tolist(), 50.0, float("nan"), *[3.0] * 80]
    assert judge(guard, *rest) == judge(twin, *rest)
    assert all(torch.equal(a, b) for a, b in zip(guard.state_dict().values(), twin.state_dict().values(), strict=True))
