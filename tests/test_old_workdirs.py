"""Workdirs that an earlier version wrote are trained on, drawn from and reconstructed as it did.

tests/workdirs/README.md says which version, and how.
"""

import json
import pathlib
import sys
import tarfile

import jax
import numpy as np
import pytest

from noise_sched import experiment, reconstruct, train
from noise_sched.experiment import sampler, workdir

HERE = pathlib.Path(__file__).parent / "workdirs"
sys.path.append(str(HERE))
import make  # noqa: E402

# The same program compiled for another processor rounds otherwise.
CLOSE = dict(rtol=1e-4, atol=1e-6)
# The bias of attention's keys has no gradient (softmax takes it out) but rounding, which Adam and LAMB scale.
ROUNDING = "['key']['bias']"


@pytest.fixture(params=["rin", "edm2"])
def old(request, tmp_path):
    """The workdir, its config as it is read today, and what the earlier version made of it."""
    with tarfile.open(HERE / "workdirs.tar.xz") as archive:
        members = [m for m in archive.getmembers() if m.name.startswith(f"{request.param}/")]
        archive.extractall(tmp_path, members, filter="data")
    folder = tmp_path / request.param / "workdir"
    expected = json.loads((folder.parent / "expected.json").read_text())
    return folder, workdir.load_config(folder), expected


def test_draws_the_same_images_and_trains_on_to_the_same_parameters(old, capsys):
    folder, config, expected = old
    out = folder.parent / "out"
    assert sampler.run(config, folder, out, make.IMAGES)
    images = np.load(out / "samples.npz")["images"].astype(int)
    assert np.abs(images - expected["images"]).max() <= 1 and images.std() > 10

    state = train.run(config, folder).state
    assert f"resuming at step {make.STEPS}" in capsys.readouterr().out
    for found, name in ((state.params, "params"), (state.ema_params, "ema")):
        found = make.entries(found)
        assert found.keys() == expected[name].keys()
        for path, values in expected[name].items():
            close = CLOSE | (dict(atol=1e-4) if path.endswith(ROUNDING) else {})
            np.testing.assert_allclose(found[path], values, **close, err_msg=path)
    for found, row in zip(make.metrics(folder), expected["metrics"], strict=True):
        assert {name: found[name] for name in row} == pytest.approx(row, rel=1e-4)
    if config.ema.stds:
        reconstructed(folder, state.ema_params[str(config.ema.stds[1])])


def reconstructed(folder, kept):
    """From the snapshots of both versions, the average of a width that was kept is that average."""
    std = workdir.load_config(folder).ema.stds[1]
    assert reconstruct.run(folder, folder.parent / "made", std) == make.STEPS + make.MORE
    config = workdir.load_config(folder.parent / "made")
    exp = experiment.from_config(config)
    with train.Checkpoints(workdir.checkpoints(folder.parent / "made"), read_only=True) as saved:
        found = saved.restore_ema(jax.eval_shape(exp.init_params, jax.random.key(0)))[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, kept)


def test_a_config_without_later_keys_means_what_it_meant(old):
    """The first workdirs had none of these keys."""
    folder, config, _ = old
    path = folder / "config.json"
    first = json.loads(path.read_text())
    later = [key for key in workdir.LATER if key.split(".")[1] in first.get(key.split(".")[0], {})]
    for key in later:
        room, name = key.split(".")
        first[room].pop(name)
    path.write_text(json.dumps(first))
    found = workdir.load_config(folder)
    config.update_from_flattened_dict({key: workdir.LATER[key] for key in later})
    assert found == config
    if config.network.name == "RIN":
        experiment.from_config(found)
