"""Commands that explain themselves: --help, `describe`, and --config.KEY=?"""

import re
import subprocess
import sys

import in_process
import pytest

from noise_sched import describe, train
from noise_sched.diffusion import specs
from noise_sched.experiment import describing, ranges


def test_help_is_the_commands_own(monkeypatch):
    out = subprocess.run(
        [sys.executable, "-m", "noise_sched.describe", "--help"], capture_output=True, text=True
    )
    assert out.returncode == 0 and out.stderr == ""
    assert "python -m noise_sched.describe sample.solver" in out.stdout
    assert "--key=...  A key of a config" in out.stdout and "--debug" in out.stdout
    assert "logtostderr" not in out.stdout and "helpfull" not in out.stdout


def test_help_of_training(capsys):
    assert in_process.run(train, ["--help"]) == 0
    flags = capsys.readouterr().out.split("Flags:\n")[1]
    assert "--workdir=...  The run's folder" in flags and "--num_hosts=N" in flags
    assert max(map(len, flags.splitlines())) <= 80


@pytest.mark.parametrize("key", describing.keys())
def test_every_key_is_described(key):
    text = describing.describe(key)
    assert text.startswith(f"config.{key} is ")
    assert max(map(len, text.splitlines())) <= 80 or "\n" not in text
    if kind := describing.spec_keys().get(key):
        assert all(f"  {name}(" in text for name in specs.choices(kind))


def test_the_keys_of_specs_are_the_strings_that_are_built():
    assert {"schedule", "loss.space", "train.density", "sample.solver"} <= set(
        describing.spec_keys()
    )
    assert all(ranges.KEYS[key] is str for key in describing.spec_keys())


@pytest.mark.parametrize("kind", specs.KINDS)
def test_every_choice_has_a_sentence_and_can_be_written_so(kind):
    for choice in describing.choices_of(kind):
        assert re.fullmatch(r"[A-Z(0-9a-z].*[.:)]", choice.what), choice
        name, arguments = choice.call.rstrip(")").split("(", 1)
        written = all("=" in part for part in arguments.split(", ") if part)
        if written and "(..." not in arguments:
            assert type(specs.build(choice.call, kind)).__name__ == name
    sourced = [bool(choice.source or "20" in choice.what) for choice in describing.choices_of(kind)]
    assert (
        kind in ("clock", "threshold", "density", "time", "conditioning")
        or sum(sourced) > len(sourced) // 2
    )


@pytest.mark.parametrize(
    "argv",
    [["--config.sample.solver=?"], ["--config=configs/digits.py:tiny", "--config.sample.solver=?"]],
)
def test_a_question_instead_of_a_value(argv, capsys):
    assert in_process.run(train, argv) == 0
    assert "dpmpp(order=2" in capsys.readouterr().out


def test_wrong_keys(capsys):
    for module, argv in ((describe, ["proces"]), (train, ["--config.proces=?"])):
        assert in_process.run(module, argv) == 2
        assert "no key 'proces'. Did you mean 'process'?" in capsys.readouterr().err


def test_the_overview(capsys):
    assert in_process.run(describe, []) == 0
    out = capsys.readouterr().out
    assert all(f"  {key} " in out for key in describing.keys())
