"""From two sets of images to a report: what is printed and kept, and what is refused before the work."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from noise_sched import evaluate
from noise_sched.evaluation import classifier
from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.frechet import Statistics
from noise_sched.evaluation.image_set import image_set
from noise_sched.interop import published_weights
from noise_sched.judging import catalogue, sources
from noise_sched.judging.judge import Judge

WITHOUT_WEIGHTS = [
    name
    for name, m in catalogue.METRICS.items()
    if m.features.split("/")[0] not in ("inception", "dinov2")
]


# For each metric without weights a fault of the images that it has to see.
FAULTS = {
    "class_agreement": lambda images: images[::-1],
    "class_fd": lambda images: images // 4,
    "swd": lambda images: images // 2 + np.roll(images, 1, axis=2) // 2,
    "spectrum": lambda images: images // 2 + np.roll(images, 1, axis=2) // 2,
    "brightness": lambda images: 50 + images // 2,
    "contrast": lambda images: images // 2,
    "nearest": lambda images: 255 - images,
    "kernel_distance": lambda images: 255 - images,
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Features of the digits, extracted once."""
    return tmp_path_factory.mktemp("features")


def open_digits():
    return sources.open_images("digits")


def open_samples():
    """Real digits, some of them faint."""
    batch = open_digits().read(0, 300)
    images = batch.images.copy()
    images[:60] = images[:60] // 4
    return image_set("samples", images, batch.labels)


@pytest.fixture(scope="module")
def digits():
    return open_digits()


@pytest.fixture(scope="module")
def samples():
    return open_samples()


@pytest.fixture(scope="module", autouse=True)
def one_short_training(digits):
    """One classifier, of fewer steps, serves all tests."""
    trained = classifier.train(digits, steps=300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "train", lambda real, seed: trained)
        yield


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    """Whoever runs the tests may have them."""
    monkeypatch.setattr(published_weights, "_FOLDERS", ("/nowhere",))
    monkeypatch.delenv(published_weights.VARIABLE, raising=False)


def judged(samples, digits, cache, metrics=(), **options):
    return evaluate.evaluate(samples, digits, metrics, cache=cache, **options)


def test_every_metric_without_weights_is_printed_and_kept(samples, digits, cache, tmp_path, capsys):
    report = judged(samples, digits, cache, out=tmp_path / "out")
    printed = capsys.readouterr().out
    assert list(report.results) == WITHOUT_WEIGHTS
    for name, metric in catalogue.METRICS.items():
        assert (f"\n{name} " in printed) == (name in WITHOUT_WEIGHTS)
        assert name not in WITHOUT_WEIGHTS or all(
            field.replace("_", " ") in printed for field in metric.shows
        )
    assert "right on 9" in printed and "of 450 that it had not seen" in printed
    kept = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert kept["images"]["count"] == 300 and kept["reference"]["count"] == 1797
    assert set(kept["metrics"]) == set(kept["real_against_real"]) == set(WITHOUT_WEIGHTS)
    assert kept["extractors"]["classifier"]["seed"] == 0 and kept["versions"]["jax"]
    # A fifth is faint, which no two parts of the real ones are; and all are copies.
    assert kept["metrics"]["contrast"]["washed_out"] == pytest.approx(0.2, abs=0.03)
    assert kept["real_against_real"]["contrast"]["washed_out"] < 0.05
    assert kept["metrics"]["nearest"]["copies"] > 0.75
    assert kept["real_against_real"]["nearest"]["copies"] < 0.05
    for name in ("swd", "class_fd", "kernel_distance", "brightness", "spectrum"):
        assert kept["metrics"][name]["distance"] > 1.5 * kept["real_against_real"][name]["distance"]
    with Image.open(tmp_path / "out" / "metrics.png") as picture:
        assert picture.size == (1210, 880) and np.asarray(picture.convert("L")).std() > 20
    # The images' own features are gone, those of the reference stay.
    folders = {path.name.split("-")[0] for path in cache.iterdir()}
    assert len(list(cache.iterdir())) == len(folders) == 5


@pytest.mark.parametrize("name", FAULTS)
def test_every_metric_sees_its_fault(name, samples, digits, cache):
    damaged = image_set("damaged", FAULTS[name](samples.images), samples.labels)
    report = Judge(digits, damaged.shape, [name], cache)(damaged)
    field, better = next(iter(catalogue.METRICS[name].shows.items()))
    found, real = (getattr(each[name], field) for each in (report.results, report.real))
    assert found > real + 0.01 if better == "lower" else found < real - 0.01


def test_every_metric_without_weights_has_a_fault():
    assert set(FAULTS) == set(WITHOUT_WEIGHTS)


def test_judging_the_real_images_finds_no_fault(digits, cache):
    found = judged(digits, digits, cache, ["class_fd", "swd", "kernel_distance", "spectrum"])
    figures = found.figures()
    assert figures["class_fd/distance"] == pytest.approx(0, abs=1e-6)
    assert figures["swd/distance"] == figures["spectrum/distance"] == 0
    assert found.real["swd"].distance > 10


def test_a_report_is_not_replaced_by_another_unless_so_told(samples, digits, cache, tmp_path):
    out = tmp_path / "report.json"
    judged(samples, digits, cache, ["contrast"], out=out, draw=False)
    first = out.read_text()
    judged(samples, digits, cache, ["contrast"], out=out, draw=False)  # the same again
    assert out.read_text() == first
    with pytest.raises(EvaluationInputError, match="holds another report: it was left as it is"):
        judged(samples, digits, cache, ["nearest"], out=out, draw=False)
    assert out.read_text() == first and len(list(tmp_path.iterdir())) == 1
    judged(samples, digits, cache, ["nearest"], out=out, draw=False, overwrite=True)
    assert "nearest" in json.loads(out.read_text())["metrics"]


def test_statistics_in_place_of_real_images(samples, digits, cache, monkeypatch, tmp_path, capsys):
    """As those of Inception, with features that cost nothing."""
    of_tones = catalogue.Metric("tones", catalogue.frechet, {"distance": "lower"})
    monkeypatch.setitem(catalogue.METRICS, "toy_fd", of_tones)
    with_images = judged(samples, digits, cache, ["toy_fd"])
    tones = np.concatenate(list(with_images.reference["tones"].blocks()))
    real = {"tones": Statistics(tones.mean(0), np.cov(tones.T), None)}
    found = judged(samples, real, cache, ["toy_fd"], out=tmp_path)
    assert found.results["toy_fd"].distance == pytest.approx(
        with_images.results["toy_fd"].distance, rel=1e-9
    )
    assert found.real == {} and (tmp_path / "metrics.png").exists()
    with pytest.raises(EvaluationInputError, match="contrast needs the real images.*serves toy_fd"):
        judged(samples, real, cache, ["contrast"])
    assert capsys.readouterr()


def test_published_statistics_are_read_and_the_weights_asked_for(tmp_path, samples):
    """EDM's file: its metrics are FID's, and Inception's weights are not here."""
    np.savez(tmp_path / "edm.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    np.savez(tmp_path / "made.npz", images=np.zeros((2500, 8, 8, 3), np.uint8))
    images, real = evaluate.open_pair(
        str(tmp_path / "made.npz"), str(tmp_path / "edm.npz"), "", "", lambda count: samples
    )
    assert real["inception/2048"].mean.shape == (2048,)
    with pytest.raises(EvaluationInputError, match=r"needs pt_inception-2015-12-05-6726825d.pth"):
        evaluate.evaluate(images, real, cache=tmp_path)


def test_what_the_reader_has_to_know_stands_below_the_table():
    about = {"extractors": {"inception": {}}, "images": {"shape": [8, 8, 1]}}
    assert catalogue.notes(about, {}) == [
        "Grey images were repeated to three channels for Inception."
    ]
    assert catalogue.notes(about | {"images": {"shape": [8, 8, 3]}}, {}) == []


def test_no_work_is_begun_for_what_cannot_be_judged(digits, tmp_path):
    def refused(images, metrics, message, real=digits):
        with pytest.raises(EvaluationInputError, match=message):
            evaluate.evaluate(images, real, metrics, cache=tmp_path / "cache", out=tmp_path / "out")
        assert not list(tmp_path.iterdir())

    batch = digits.read(0, 20)
    few = image_set("few", batch.images, batch.labels)
    refused(few, ["class_fd"], r"few \(images\): class_fd needs at least 100 images; got 20")
    unlabelled = image_set("some", batch.images)
    refused(
        unlabelled, ["class_agreement"], "some .images. has no labels, .* class_agreement compares"
    )
    asked_for_none = image_set("some", batch.images, np.full(20, -1))
    refused(asked_for_none, ["class_agreement"], "or not one for every image")
    large = image_set("large", np.zeros((200, 32, 32, 3), np.uint8))
    refused(large, ["contrast"], "large: images of 32x32x3 cannot be compared with digits@train")
    refused(few, ["contrst"], "no metric 'contrst'. Did you mean 'contrast'")
    refused(few, ["swd", "swd"], "names swd twice")
    refused(few, ["kid"], r"inception-2015-12-05-.*\.pth")


def test_grey_images_of_another_size_are_told_the_mend(digits, cache):
    large = image_set("large", np.zeros((200, 16, 16, 1), np.uint8))
    with pytest.raises(EvaluationInputError, match="--resize=antialias:16"):
        Judge(digits, large.shape, ["contrast"], cache)


def test_the_flags_name_two_sets(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / f"{name}.png")
    np.savez(tmp_path / "made.npz", images=rng.integers(0, 256, (5, 8, 8, 3), np.uint8))

    def opened(resize, images="made.npz"):
        return evaluate.open_pair(
            str(tmp_path / images), str(tmp_path), resize, "", lambda count: None
        )

    images, real = opened("antialias")
    assert images.shape == real.shape == (8, 8, 3) and len(real) == 3
    images, real = opened("antialias:4")
    assert images.shape == real.shape == (4, 4, 3)
    assert opened("")[1].shape == (20, 30, 3)
    with pytest.raises(EvaluationInputError, match="--resize=bicubic: expected antialias"):
        opened("bicubic")
    with pytest.raises(EvaluationInputError, match="makes squares.*--resize=antialias:20"):
        opened("antialias", images=".")


def test_the_command_line(samples, tmp_path):
    np.savez(tmp_path / "samples.npz", images=samples.images, labels=samples.labels)

    def run(*arguments):
        command = [sys.executable, "-m", "noise_sched.evaluate", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    at = (f"--cache={tmp_path / 'cache'}", f"--images={tmp_path / 'samples.npz'}")
    good = run(*at, "--metrics=contrast,nearest", f"--out={tmp_path / 'out'}")
    assert good.returncode == 0, good.stderr
    assert "300 images" in good.stdout and "real ones (digits@train)" in good.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"metrics.json", "metrics.png"}
