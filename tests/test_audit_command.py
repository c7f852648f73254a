"""`python -m noise_sched.audit` as a user runs it."""

import json
import pathlib
import re
import subprocess
import sys

import in_process
import pytest

from configs import digits
from noise_sched import audit, experiment
from noise_sched.auditing import report, text

ROOT = pathlib.Path(__file__).parent.parent
SD15 = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "clip_sampel": False,
}
MENDED = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}


@pytest.fixture
def command(capsys, monkeypatch):
    """(exit code, standard output, standard error) of the command with some arguments."""
    monkeypatch.chdir(ROOT)

    def run(*args: str) -> tuple[int, str, str]:
        code = in_process.run(audit, list(args))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def file(tmp_path):
    def write(config):
        path = tmp_path / "scheduler_config.json"
        path.write_text(json.dumps(config))
        return path

    return write


def test_a_published_file_is_flawed(command, file, tmp_path):
    out = tmp_path / "audit"
    code, text, err = command(f"--diffusers={file(SD15)}", f"--out={out}", "--strict")
    assert code == 1, err
    assert "FLAW nonzero_terminal_snr" in text and "FLAW last_level_not_sampled" in text
    assert (
        re.search(r"clip_sampel = False \(unknown\).*'?clip_sample", text) or "clip_sampel" in text
    )
    report = json.loads((out / "report.json").read_text())
    assert report["flawed"] and report["terminal"]["snr"] == pytest.approx(0.004681917, rel=1e-6)
    assert {f["name"] for f in report["fields"]} >= {"clip_sampel", "set_alpha_to_one"}
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")


def test_a_mended_file_is_not_and_comes_back(command, file, tmp_path):
    path = tmp_path / "written.json"
    code, text, err = command(
        f"--diffusers={file(MENDED)}", "--strict", "--steps=25", f"--write_diffusers={path}"
    )
    assert code == 0 and "FLAW" not in text, err
    assert "at zero SNR                                yes" in text
    assert "not in the file: steps=25" in text
    assert MENDED.items() <= json.loads(path.read_text()).items()


def test_a_config_of_ours(tmp_path):
    config = digits.get_config("tiny").lock()
    found = report.audit(experiment.facts_of(config))
    assert not found.flawed and len(found.steps) == config.sample.steps + 1
    assert found.pixels == config.data.image_size**2
    text.keep(found, tmp_path / "out", name="digits")
    written = (tmp_path / "out" / "report.json").read_text()
    assert json.loads(written)["start"]["logsnr"] == "-inf" and "NaN" not in written


def test_the_flags_of_a_config(command):
    code, text, err = command(
        "--config=configs/digits.py:tiny",
        "--config.schedule=scaled_linear()",
        "--config.sample.schedule=scaled_linear()",
        "--config.sample.grid=leading(offset=1)",
        "--config.sample.steps=10",
        "--pixels=4096",
        "--strict",
    )
    assert code == 1 and "FLAW nonzero_terminal_snr" in text, err


def test_lin_table_in_a_process_of_its_own():
    arguments = [sys.executable, "-m", "noise_sched.audit", "--lin_table"]
    text = subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "4.035993e-05" in text and "0.06826491" in text and "0.004681917" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "give --config=configs/NAME.py, --workdir"),
        (("--diffusers=nowhere.json",), "nowhere.json"),
        (("--config=configs/digit.py",), "no file configs/digit.py.*configs/digits.py"),
        (("--config=configs/digits.py:tiny", "--steps=3"), "--steps is for --diffusers"),
        (
            ("--config=configs/digits.py:tiny", "--write_diffusers=x.json"),
            "no scheduler_config.json says this: .*continuous",
        ),
    ],
)
def test_mistakes_get_one_message(command, args, message):
    code, _, err = command(*args)
    assert code == 2 and re.search(message, err) and "Traceback" not in err, err
    assert len(err.strip().splitlines()) <= 2 and not (ROOT / "x.json").exists()
