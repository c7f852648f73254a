"""The binary: one command from a file of images to a table and a JSON, one message on bad input."""

import json
import subprocess
import sys

import numpy as np
import pytest

from noise_sched import evaluate
from noise_sched.evaluation import references, report
from noise_sched.evaluation.image_set import EvaluationInputError


@pytest.fixture
def samples(tmp_path):
    real = references.digits()
    images = np.round(real.images[:200] * 255).astype(np.uint8)
    np.savez(tmp_path / "samples.npz", images=images, labels=real.labels[:200])
    return tmp_path / "samples.npz"


def test_all_metrics_are_printed_and_kept(samples, tmp_path, capsys):
    out = tmp_path / "reports" / "report.json"
    evaluate.judge(samples, "digits", list(evaluate.METRICS), out)
    printed = capsys.readouterr().out
    for name in evaluate.METRICS:
        assert f"\n{name}\n" in printed
    assert "held-out real digits  0.99" in printed and "(450 digits)" in printed
    kept = json.loads(out.read_text())
    assert kept["count"] == 200 and kept["reference"] == "digits"
    assert kept["class_agreement"]["agreement"] == 1 and set(evaluate.METRICS) < set(kept)
    assert [path.name for path in out.parent.iterdir()] == ["report.json"]


def test_a_report_is_not_replaced_by_another_unless_so_told(samples, tmp_path):
    out = tmp_path / "report.json"
    evaluate.judge(samples, "digits", ["contrast"], out)
    first = out.read_text()
    evaluate.judge(samples, "digits", ["contrast"], out)  # the same again is no conflict
    with pytest.raises(EvaluationInputError, match="holds another report: it was left as it is"):
        evaluate.judge(samples, "digits", ["nearest"], out)
    assert out.read_text() == first
    evaluate.judge(samples, "digits", ["nearest"], out, overwrite=True)
    assert "nearest" in json.loads(out.read_text())


def test_a_folder_is_no_report(tmp_path):
    with pytest.raises(EvaluationInputError, match="is a folder. Name a file: .*report.json"):
        report.write(tmp_path, "{}")


@pytest.mark.parametrize(
    ("reference", "metric", "message"),
    [
        ("digits", "class_agrement", "no metric 'class_agrement'. Did you mean 'class_agreement'"),
        ("digits", "fid", "no metric 'fid'. There are: class_agreement, contrast, kernel_dist"),
        ("digit", "contrast", "no reference 'digit'. Did you mean 'digits'?"),
    ],
)
def test_mistyped_names_are_answered_with_the_nearest(samples, reference, metric, message):
    with pytest.raises(EvaluationInputError, match=message):
        evaluate.judge(samples, reference, [metric])


def test_images_of_another_size_leave_no_report(tmp_path):
    np.savez(tmp_path / "large.npz", images=np.zeros((2, 32, 32, 3), np.uint8))
    with pytest.raises(EvaluationInputError, match="32x32x3 cannot be compared with digits"):
        evaluate.judge(tmp_path / "large.npz", "digits", ["contrast"], tmp_path / "report.json")
    assert not (tmp_path / "report.json").exists()


def test_the_command_line(samples, tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "noise_sched.evaluate", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    good = run(f"--images={samples}", "--metrics=class_agreement,contrast")
    assert good.returncode == 0 and "(200 of 200)" in good.stdout
    bad = run(f"--images={tmp_path / 'nowhere.npz'}")
    assert bad.returncode == 2 and bad.stdout == ""
    assert bad.stderr.startswith("error: ") and "nowhere.npz does not exist." in bad.stderr
    assert "Traceback" not in bad.stderr
