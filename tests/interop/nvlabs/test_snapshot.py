"""What a snapshot holds, against torch's own reading of it."""

import pathlib
import pickle

import make_snapshot
import numpy as np
import pytest

from noise_sched.interop.nvlabs import snapshot
from noise_sched.interop.pickles.unpickler import ForeignFileError

HERE = pathlib.Path(__file__).parent
TINY, ARRAYS = HERE / "tiny.pkl", np.load(HERE / "tiny.npz")


def arrays_of(path):
    return snapshot.state_dict(snapshot.read(path)["ema"])


def test_arrays_are_those_of_torch():
    found = arrays_of(TINY)
    assert list(found) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


def test_objects_and_arguments():
    loaded = snapshot.read(TINY)
    assert set(loaded) == {"ema", "loss_fn", "augment_pipe", "dataset_kwargs"}
    assert loaded["ema"].class_name == "EDMPrecond"
    assert loaded["ema"].state["sigma_data"] == 0.5
    assert loaded["loss_fn"].state["P_mean"] == -1.1
    network = snapshot.child(loaded["ema"], "model")
    assert network.class_name == "SongUNet"
    arguments = network.arguments()
    assert arguments["channel_mult"] == (1,) and arguments["dropout"] == 0.13
    assert arguments["img_resolution"] == 8
    block = network.state["_modules"]["enc"].state["_modules"]["8x8_block0"]
    assert block.state["skip_scale"] == np.sqrt(0.5)  # a number of NumPy's


@pytest.mark.parametrize(
    "recorded",
    [{}, {"_init_args": (8,), "_init_kwargs": {}}, {"_init_kwargs": [1]}, {"_init_kwargs": {1: 2}}],
)
def test_arguments_have_names(recorded):
    with pytest.raises(ForeignFileError, match="not recorded by name"):
        snapshot.Persistent("A", recorded).arguments()


def test_the_committed_file_is_what_the_script_makes(tmp_path):
    pytest.importorskip("torch")
    made = make_snapshot.edm_snapshot(make_snapshot.tiny())
    make_snapshot.dump(made, tmp_path / "new.pkl")
    again = arrays_of(tmp_path / "new.pkl")
    assert list(again) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        np.testing.assert_array_equal(again[name], expected)


def all_kinds(torch):
    """A network whose tensors have every type and layout."""
    net = make_snapshot.made("Net", torch.nn.Module, args=1)
    kinds = "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()
    base = torch.arange(24).reshape(4, 6)
    for kind in kinds:
        net.register_buffer(f"of_{kind}", base.to(getattr(torch, kind)))
    net.register_buffer("nothing", None)
    net.register_parameter("scalar", torch.nn.Parameter(torch.tensor(0.5)))
    net.register_parameter("empty", torch.nn.Parameter(torch.zeros(0, 3)))
    # Views of one storage.
    whole = torch.arange(60.0).reshape(3, 4, 5)
    net.register_buffer("part", whole[1:, ::2, 1:4])
    net.register_buffer("turned", whole.permute(2, 0, 1))
    net.add_module(
        "list",
        torch.nn.ModuleList(
            [make_snapshot.as_torch(make_snapshot.grow("Linear", {"w": base.numpy()}))]
        ),
    )
    return net


@pytest.mark.parametrize("form", [2, 3, 4, 5, "zip", "legacy"])
def test_every_tensor_and_stream(tmp_path, form):
    torch = pytest.importorskip("torch")
    net, path = all_kinds(torch), tmp_path / "file.pkl"
    data = dict(ema=net, set={1, 2}, array=np.arange(6.0).reshape(2, 3)[:, ::2])
    if isinstance(form, int):
        make_snapshot.dump(data, path, form)
    else:
        with make_snapshot.published_modules():
            torch.save(data, path, _use_new_zipfile_serialization=form == "zip")
    loaded = snapshot.read(path)
    assert loaded["set"] == {1, 2}
    np.testing.assert_array_equal(loaded["array"].value, data["array"])
    found, expected = snapshot.state_dict(loaded["ema"]), net.state_dict()
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype.name == str(tensor.dtype).removeprefix("torch.")
        assert found[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(found[name].astype("f8"), tensor.double().numpy())


def test_no_pickle_of_python_itself_reads_the_file():
    """The file is of the published kind: it needs NVlabs' modules."""
    with pytest.raises(ModuleNotFoundError, match="torch_utils"):
        pickle.loads(TINY.read_bytes())
