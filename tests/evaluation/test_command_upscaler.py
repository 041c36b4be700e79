"""Another program in the place of an upscaler: real ones, good and bad."""

import os
import shlex
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from PIL import Image
from support.image_pairs import tool
from support.image_sets import write_set

from dan_fast.errors import DanFastError, ToolError
from dan_fast.evaluation.command_upscaler import CommandUpscaler
from dan_fast.evaluation.degraded_set import DegradedSet
from dan_fast.evaluation.measure import comparison, measure

LR = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_program_upscales(tmp_path, scale):
    result = CommandUpscaler(tool(tmp_path, "good"), scale)(LR)
    expected = Image.fromarray(LR).resize((10 * scale, 12 * scale), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(result.image, np.asarray(expected))
    assert result.kernel is None


@pytest.mark.parametrize(("name", "message"), [
    ("failing", "failing ended with exit code 3: no such model: x"),
    ("silent", "silent wrote no image: nothing to do"),
    ("small", "small wrote 5x7 pixels, expected 40x48"),
    ("damaged", "damaged wrote what is no image: not a readable PNG"),
    ("killed", "killed was ended by signal 15")])
def test_what_went_wrong_is_said(tmp_path, name, message):
    with pytest.raises(ToolError) as error:
        CommandUpscaler(tool(tmp_path, name), 4)(LR)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value) and "more" not in str(error.value)


def assert_ends(pid):
    """Wait until the process is gone, or nobody has asked for its exit code yet."""
    for _ in range(100):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pid} lives")


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path):
    upscaler = CommandUpscaler(tool(tmp_path, "hanging"), 4, timeout=3)
    start = time.monotonic()
    with pytest.raises(ToolError, match="hanging took more than 3 s and was stopped: waiting for a licence"):
        upscaler(LR)
    assert time.monotonic() - start < 60
    assert_ends(int((tmp_path / "child").read_text()))


def test_an_interrupt_ends_the_program_and_its_children(tmp_path, monkeypatch):
    wait = subprocess.Popen.wait

    def interrupted(process, timeout=None):
        if timeout is None:
            return wait(process)
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
            time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        CommandUpscaler(tool(tmp_path, "hanging"), 4)(LR)
    assert_ends(int((tmp_path / "child").read_text()))


def test_nothing_is_left_of_an_image(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    CommandUpscaler(tool(tmp_path, "good"), 2)(LR)
    with pytest.raises(ToolError):
        CommandUpscaler(tool(tmp_path, "failing"), 2)(LR)
    assert not list((tmp_path / "temporary").iterdir())


def test_no_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ToolError):
        CommandUpscaler(f"{tool(tmp_path, 'good')}; touch here", 4)(LR)
    assert not (tmp_path / "here").exists()


def test_placeholders_stand_within_words_too(tmp_path):
    script = tmp_path / "tool.py"
    script.write_text("import shutil, sys\nassert sys.argv[1] == '--scale=1' and sys.argv[4] == '{other}'\n"
                      "shutil.copy(sys.argv[2][3:], sys.argv[3])\n")
    command = f"{shlex.quote(sys.executable)} {script} --scale={{scale}} in={{in}} {{out}} {{other}}"
    np.testing.assert_array_equal(CommandUpscaler(command, 1)(LR).image, LR)


@pytest.mark.parametrize(("command", "message"), [
    ("tool 'a {in} {out}", "cannot be split into words"), ("cat {out}", "lacks {in}"), ("cat {in}", "lacks {out}"),
    ("no-such-program {in} {out}", "there is no program 'no-such-program'")])
def test_what_cannot_be_a_command(command, message):
    with pytest.raises(DanFastError, match=message):
        CommandUpscaler(command, 4)


def test_names(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda word: word)
    for command, name in (("/opt/realesrgan-ncnn -i {in} -o {out}", "realesrgan-ncnn"),
                          ("python3 -u my/infer.py {in} {out}", "infer"), ("python -m swin {in} {out}", "swin"),
                          ("'/my tools/a b.sh' {in} {out}", "a b")):
        assert CommandUpscaler(command, 4).name == name


def test_a_program_that_cannot_be_started(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    os.chmod(broken, 0o755)
    with pytest.raises(ToolError, match="broken cannot be started: "):
        CommandUpscaler(f"{shlex.quote(str(broken))} {{in}} {{out}}", 4)(LR)


def test_measured_on_a_degraded_set(tmp_path):
    degraded = DegradedSet.from_folder(write_set(tmp_path / "set"), 4, "irregular", limit=1)
    pictures = []
    row, = measure(degraded, CommandUpscaler(tool(tmp_path, "good"), 4),
                   on_measured=lambda case, result: pictures.extend(
                       comparison(case, result, 4, name) for name in ("good", "bicubic")))
    assert row.kernel_error is row.kernel_psnr is row.aligned_kernel_error is None
    assert row.psnr_y > 0 and row.shift_down is not None and row.aligned_psnr_y is not None
    # Three images of 44 pixels and the true kernel of 168, without an estimated one.
    assert 3 * 44 + 168 < pictures[0].shape[1] == pictures[1].shape[1] < 3 * 44 + 2 * 168


def test_failures_raise_or_are_reported(tmp_path):
    degraded = DegradedSet.from_folder(write_set(tmp_path / "set"), 4, limit=1)
    upscaler = CommandUpscaler(tool(tmp_path, "failing"), 4)
    with pytest.raises(ToolError):
        measure(degraded, upscaler)
    skipped: list[str] = []
    assert measure(degraded, upscaler, on_skip=skipped.append) == []
    assert len(skipped) == 8 and skipped[3].startswith("0.png, kernel 3: failing ended with exit code 3")
