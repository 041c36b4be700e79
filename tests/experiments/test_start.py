"""Trainings start from what all networks of an experiment have in common, and from nothing that it asks about."""

from dataclasses import replace

import pytest
import torch

from dan_fast import checkpoint
from dan_fast.errors import DanFastError
from dan_fast.experiments import EXPERIMENTS
from dan_fast.experiments.experiment import TINY
from dan_fast.experiments.start import check_complete, common_tensors, read_start, started_anew
from dan_fast.model import DAN
from dan_fast.training.run import Run, RunOptions

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = TINY.config


def start(tmp_path, config=CONFIG):
    checkpoint.save(DAN(config), tmp_path / "weights.safetensors")
    return read_start(str(tmp_path / "weights.safetensors"))


@pytest.mark.parametrize(("question", "kept", "anew"), [
    ("inputs", ("Restorer.",), ("Estimator.",)), ("supervision", ("Restorer.",), ("Estimator.",)),
    ("end-to-end", ("Restorer.",), ("Estimator.", "Corrector.")),
    # The heads of v1's Restorer have other names, so DPCB's start anew too.
    ("block", ("Restorer.fusion.", "Restorer.upscale.", "Estimator.head", "Estimator.tail"),
     ("Restorer.body.", "Restorer.head", "Estimator.body.")),
    ("iterations", ("Restorer.", "Estimator."), ())])
def test_both_sides_start_alike(question, kept, anew, tmp_path):
    begin, experiment = start(tmp_path), EXPERIMENTS[question](TINY)
    common = common_tensors(experiment, begin)
    weights = begin.network.state_dict()
    for variant in experiment.variants:
        run = Run(variant.preset, 0, RunOptions(tmp_path / "run", torch.device("cpu")), build=variant.build)
        drawn = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
        run.start_from(begin.network, common)
        count = 0
        for name, parameter in run.model.named_parameters():
            assert name.startswith(kept) is not name.startswith(anew or ("none",)), name
            expected = weights[name] if name.startswith(kept) else drawn[name]
            assert torch.equal(parameter, expected) and torch.equal(run.average.state_dict()[name], expected), name
            count += 0 if name.startswith(kept) else parameter.numel()
        assert torch.equal(run.model.encoder, weights["encoder"])
        assert started_anew(run.model, common) == count > (-1 if question == "iterations" else 0)


def test_weights_without_a_refiner_and_of_the_same_computation(tmp_path):
    with pytest.raises(DanFastError, match="has a Refiner"):
        start(tmp_path, replace(CONFIG, refiner_channels=8, refiner_groups=1, refiner_blocks=1))
    doubled = start(tmp_path, replace(CONFIG, group_residual="doubled"))
    with pytest.raises(DanFastError, match="its group_residual is 'doubled', expected 'plain'"):
        common_tensors(EXPERIMENTS["inputs"](TINY), doubled)
    wide = start(tmp_path, replace(CONFIG, channels=24, estimator_channels=24))
    with pytest.raises(DanFastError, match="no weight of it fits"):
        common_tensors(EXPERIMENTS["inputs"](TINY), wide)


@pytest.mark.parametrize("question", ["blur", "recipe"])
def test_some_questions_take_no_weights(question, tmp_path):
    with pytest.raises(DanFastError, match="leave it out"):
        common_tensors(EXPERIMENTS[question](TINY), start(tmp_path))


def test_only_a_whole_network_is_tested_untrained(tmp_path):
    begin = start(tmp_path)
    iterations, inputs = EXPERIMENTS["iterations"](TINY), EXPERIMENTS["inputs"](TINY)
    check_complete(iterations, begin, common_tensors(iterations, begin))
    with pytest.raises(DanFastError, match="parameters of 'lr-and-sr' are not taken from"):
        check_complete(inputs, begin, common_tensors(inputs, begin))
    other = start(tmp_path, replace(CONFIG, iterations=6))
    with pytest.raises(DanFastError, match="trained with 6 iterations, expected 4"):
        check_complete(iterations, other, common_tensors(iterations, other))
