"""Hostile and damaged files: nothing in them runs, and each is refused in one message."""

import io
import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest

from noise_sched.interop.nvlabs import snapshot
from noise_sched.interop.pickles import torch_tensors
from noise_sched.interop.pickles.unpickler import ForeignFileError

TINY = pathlib.Path(__file__).parent / "tiny.pkl"
COMMAND = "touch marker"
RECONSTRUCT = ("torch_utils.persistence", "_reconstruct_persistent_obj")
TENSOR = ("torch._utils", "_rebuild_tensor_v2")
FROM_BYTES = ("torch.storage", "_load_from_bytes")


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("marker")), "something of the file was run"
    assert not list(tmp_path.rglob("the_source_was_run"))


def value(plain):
    """The opcodes that leave a plain object on the stack."""
    return pickle.dumps(plain, 2)[2:-1]


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def called(name, *args):
    """The opcodes that call a global; an argument in bytes is opcodes already."""
    parts = [arg if isinstance(arg, Opcodes) else value(arg) for arg in args]
    return Opcodes(named(*name) + b"(" + b"".join(parts) + b"tR")


class Opcodes(bytes):
    pass


def read(opcodes):
    pathlib.Path("file.pkl").write_bytes(b"\x80\x04" + opcodes + b".")
    return snapshot.read(pathlib.Path("file.pkl"))


def storage(numbers=(1.0, 2.0), key="0", kind="FloatStorage", length=None, body=None):
    """A storage's legacy stream."""
    count = len(numbers) if length is None else length
    pid = (
        b"(" + value("storage") + named("torch", kind) + value(key) + value("cpu") + value(count)
    ) + b"NtQ"
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    stream = b"".join(pickle.dumps(part, 2) for part in parts)
    stream += b"\x80\x02" + (pid if body is None else body) + b"." + pickle.dumps([key], 2)
    return stream + count.to_bytes(8, "little") + np.asarray(numbers, "<f4").tobytes()


def bytes_opcode(data):
    return Opcodes(b"B" + len(data).to_bytes(4, "little") + data)


def tensor(offset=0, shape=(2,), strides=(1,), **of_storage):
    inner = called(FROM_BYTES, bytes_opcode(storage(**of_storage)))
    return called(TENSOR, inner, offset, shape, strides, False, {})


def network(**groups):
    """A snapshot's dict whose network has the given opcodes as members."""
    members = b"".join(value(k) + v for k, v in groups.items())
    state = Opcodes(value("state") + b"}(" + members + b"u")
    source = f"__import__('os').system({COMMAND!r})"
    meta = {"type": "class", "version": 6, "module_src": source, "class_name": "EDMPrecond"}
    head = b"}(" + b"".join(value(k) + value(v) for k, v in meta.items()) + state + b"u"
    return b"}" + value("ema") + called(RECONSTRUCT, Opcodes(head)) + b"s"


def parameters(opcodes):
    return network(_parameters=b"}" + value("w") + opcodes + b"s")


def test_the_assembler_makes_what_torch_makes():
    loaded = read(parameters(tensor()))
    np.testing.assert_array_equal(snapshot.state_dict(loaded["ema"])["w"], [1.0, 2.0])
    assert loaded["ema"].class_name == "EDMPrecond"  # and its source was not run


FOREIGN = {
    "a command": called((os.name, "system"), COMMAND),
    "eval": called(("builtins", "eval"), f"__import__('os').system({COMMAND!r})"),
    "exec, by its old name": called(("__builtin__", "exec"), "open('marker', 'w')"),
    "getattr": called(("builtins", "getattr"), "a", "upper"),
    "partial": called(("functools", "partial"), Opcodes(named(*RECONSTRUCT))),
    "an importer": called(("importlib", "import_module"), "this"),
    "the unpickler itself": called(("pickle", "loads"), Opcodes(b"C\x02N.")),
    "our own code": called(("noise_sched.interop.pickles.unpickler", "Function"), "a"),
    "a class of another project": called(("torchvision.models.resnet", "ResNet")),
    "an attribute of a known name": Opcodes(
        b"\x8c\x17torch_utils.persistence"
        + b"\x8c\x27_reconstruct_persistent_obj.__globals__"
        + b"\x93"
    ),
    "inside a storage": called(
        FROM_BYTES, bytes_opcode(storage(body=called((os.name, "system"), COMMAND)))
    ),
    "a snapshot's name inside a storage": called(
        FROM_BYTES, bytes_opcode(storage(body=named("dnnlib.util", "EasyDict")))
    ),
}


@pytest.mark.parametrize("opcodes", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_name_is_refused(opcodes):
    with pytest.raises(ForeignFileError, match="^file.pkl: asks for .*nothing was run"):
        read(opcodes)


TRICKS = {
    "an old instance": b"(" + value(COMMAND) + f"i{os.name}\nsystem\n".encode(),
    "an extension code": b"\x82\x01",
    "an id of something outside": value("outside") + b"Q",
    "a class's attributes": named("numpy", "ndarray") + b"(N}" + value("x") + b"K\x01stb",
    "a dict class's attributes": named("dnnlib.util", "EasyDict")
    + b"(N}"
    + value("__setitem__")
    + b"K\x01stb",
    "a function's attributes": named(*RECONSTRUCT) + b"}" + value("_made") + b"Nsb",
    "a storage type's attributes": named("torch", "FloatStorage") + b"}" + value("dtype") + b"Nsb",
    "a storage type called": called(("torch", "FloatStorage"), 3),
    "a function as a class": named(*RECONSTRUCT) + b")\x81",
    "a tensor's attributes": tensor() + b"}" + value("shape") + b"K\x05sb",
    "a network's attributes": called(RECONSTRUCT, {"type": "class", "class_name": "a", "state": {}})
    + b"}"
    + value("class_name")
    + b"K\x05sb",
    "an object without a name": called(RECONSTRUCT, {"module_src": "1"}),
    "an object that is no dict": called(RECONSTRUCT, 3),
    "a tensor of numbers": called(TENSOR, 1, 2, 3, 4),
    "a parameter of text": called(("torch._utils", "_rebuild_parameter"), "a"),
    "a storage of text": called(FROM_BYTES, "a"),
    "a storage of other bytes": called(FROM_BYTES, Opcodes(b"C\x02N.")),
    "a set of a number": called(("builtins", "set"), 10**12),
    "pairs of a number": called(("collections", "OrderedDict"), 3),
    "an array of objects": called(("numpy", "dtype"), "O8", False, True),
    "an array of no dtype": called(
        ("numpy._core.numeric", "_frombuffer"), Opcodes(b"C\x02ab"), 3, (2,), "C"
    ),
    "an array of a number of bytes": called(
        ("numpy._core.numeric", "_frombuffer"), 10**12, called(("numpy", "dtype"), "u1"), (2,), "C"
    ),
    "a storage longer than the file": called(FROM_BYTES, bytes_opcode(storage(length=2**50))),
    "bytes longer than the file": b"\x8e" + (2**60).to_bytes(8, "little") + b"ab",
    "text longer than the file": b"X" + (2**31).to_bytes(4, "little") + b"ab",
    "a memo of 16 GB": b"Nr" + (2**31 - 1).to_bytes(4, "little"),
    "a memo by text": b"Np2000000000\n",
    "a missing memo": b"h\x05",
    "an empty stack": b"0",
    "a key that cannot be one": b"}]Ns",
}


@pytest.mark.parametrize("opcodes", TRICKS.values(), ids=TRICKS)
def test_a_trick_is_refused(opcodes):
    with pytest.raises(ForeignFileError) as error:
        read(opcodes)
    assert str(error.value).startswith("file.pkl: ") and "\n" not in str(error.value)


def test_tricks_leave_the_stand_ins_as_they_were():
    test_the_assembler_makes_what_torch_makes()
    assert isinstance(snapshot.read(TINY)["ema"], snapshot.Persistent)


TENSORS = {
    "longer than its storage": dict(shape=(3,)),
    "repeated": dict(shape=(2**40,), strides=(0,)),
    "of overflowing size": dict(shape=(2**33, 2**33), strides=(0, 0)),
    "beyond its storage": dict(offset=1),
    "striding out": dict(strides=(2,)),
    "before its storage": dict(offset=-1),
    "going backwards": dict(offset=1, strides=(-1,)),
    "of a shape in text": dict(shape="ab"),
    "of fractions": dict(shape=(0.5,)),
    "of 65 axes": dict(shape=(1,) * 65, strides=(0,) * 65),
    "of nothing, with huge strides": dict(shape=(0,), strides=(10**30,)),
    "of more axes than strides": dict(shape=(1, 2)),
    "of unknown numbers": dict(kind="ComplexFloatStorage"),
    "with fewer numbers than said": dict(length=4),
}


@pytest.mark.parametrize("wrong", TENSORS.values(), ids=TENSORS)
def test_an_impossible_tensor_is_refused(wrong):
    with pytest.raises((ForeignFileError, ValueError)) as error:
        snapshot.state_dict(read(parameters(tensor(**wrong)))["ema"])
    assert isinstance(error.value, ForeignFileError)


def test_a_module_within_itself_is_refused():
    # The dict of modules is put into the memo and holds its own network.
    container = named("torch.nn.modules.container", "ModuleDict") + b")\x81q\x14"
    inner = container + b"}" + value("_modules") + b"}" + value("x") + b"h\x14ssb"
    loaded = read(network(_modules=b"}" + value("x") + inner + b"s"))
    with pytest.raises(ForeignFileError, match="within itself"):
        snapshot.state_dict(loaded["ema"])


def test_deep_nesting_is_refused_or_read_but_does_not_crash():
    deep = b"]" * 100_000 + b"a" * 99_999
    loaded = read(network(_init_kwargs=b"}" + value("a") + deep + b"s"))
    with pytest.raises(ForeignFileError, match="a setting that is a list"):
        loaded["ema"].arguments()


def zipped(compression=zipfile.ZIP_STORED, **files):
    with zipfile.ZipFile("file.pkl", "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(f"archive/{name.replace('_', '.')}", data)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"data_pkl": b"\x80\x02" + FOREIGN["a command"] + b"."}, "asks for"),
        ({"readme": b"a"}, "no data.pkl"),
        ({"data_pkl": pickle.dumps(1), "byteorder": b"big"}, "big-endian"),
        ({"data_pkl": pickle.dumps(1), "compression": zipfile.ZIP_DEFLATED}, "compressed"),
        ({"data_pkl": pickle.dumps({"a": 1})}, "no snapshot of EDM or EDM2"),
    ],
)
def test_zip_files(files, message):
    zipped(**files)
    with pytest.raises(ForeignFileError, match=f"^file.pkl: .*{message}"):
        snapshot.read(pathlib.Path("file.pkl"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no pickle"),
        (b"<!DOCTYPE html>", "is no pickle.*web page"),
        (b"PK\x03\x04 and no more", "damaged zip"),
        (pickle.dumps({"ema": 1, "net": 2}), "holds a dict of 'ema', 'net'"),
        (pickle.dumps([1]), "holds a list"),
        (pickle.dumps({}), "a dict of nothing"),
    ],
)
def test_other_files(data, message):
    pathlib.Path("file.pkl").write_bytes(data)
    with pytest.raises(ForeignFileError, match=f"^file.pkl: .*{message}"):
        snapshot.read(pathlib.Path("file.pkl"))


def test_a_truncated_file_is_refused_wherever_it_ends():
    whole = TINY.read_bytes()
    for end in np.linspace(1, len(whole) - 1, 25).astype(int):
        pathlib.Path("file.pkl").write_bytes(whole[:end])
        with pytest.raises(ForeignFileError, match="truncated or no pickle"):
            snapshot.read(pathlib.Path("file.pkl"))


def test_a_changed_byte_is_refused_or_harmless():
    """Whatever a file holds, it is read or refused: no other error, no memory, no time."""
    whole, rng = TINY.read_bytes(), np.random.default_rng(0)
    refused = 0
    for position in rng.integers(0, len(whole), 60):
        changed = bytearray(whole)
        changed[position] = rng.integers(256)
        pathlib.Path("file.pkl").write_bytes(changed)
        try:
            snapshot.state_dict(snapshot.read(pathlib.Path("file.pkl"))["ema"])
        except ForeignFileError:
            refused += 1
    assert 0 < refused < 60


def test_a_legacy_stream_of_another_protocol_is_refused():
    stream = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(7, 2) + pickle.dumps({}, 2)
    with pytest.raises(ForeignFileError, match="protocol 7"):
        torch_tensors.load_stream(io.BytesIO(stream), {})
