"""Tests that ``make quick`` leaves out."""

from __future__ import annotations

import re

# Files and tests that take seconds each: compilers, whole training runs, killed processes. They take three quarters of
# the time of all; pytest --durations=30 shows what else belongs here. Each expression must match a test.
SLOW = (
    r"_compiles\.py", r"_paths\.py", r"_on_host\.py", r"test_ablate_command\.py", r"test_correlate\.py",
    r"test_documented_commands\.py.*(\.train |-fast train |ablate |[<>])",
    r"test_forked\.py", r"test_fuzz\.py", r"test_gpu_check\.py", r"test_slow\.py", r"test_training_checkpoints\.py",
    r"test_training_processes\.py", r"test_upscaler_travels\.py", r"test_wheel\.py",
    "bicubic_on_set5", "compiles_and_exports", "compiles_as_one_graph", "every_kernel_of_set5", "interrupt",
    "killed_batch", "less_memory", "memory_does_not_grow", "no_evaluation_image", "resume", "test_command_",
    "test_it_learns",
    "test_plots", "the_documented_module", "unbroken", "works_without_the_extension")


def is_slow(name: str) -> bool:
    """Whether a test, ``path::name``, takes seconds."""
    return any(re.search(expression, name) for expression in SLOW)
