# ruff: noqa: E501  (lines of compiled programs)
"""What a preflight counts: operations, bytes and collectives with loops in them, and what follows.

Compiling for a TPU needs libtpu (pip install -e '.[preflight]') and a minute: those tests are marked slow.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits, imagenet64_rin
from noise_sched import experiment
from noise_sched.networks import RIN
from noise_sched.preflight import chips, fitting, flops, hlo, programs, roofline
from noise_sched.preflight.chips import CHIPS
from noise_sched.preflight.programs import DoesNotFit, Program

ROOT = pathlib.Path(__file__).parents[2]
NEEDS_LIBTPU = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="pip install 'noise_sched[preflight]'"
)


def matrix(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (jnp.matmul, ((3, 5), (5, 7)), 2 * 3 * 5 * 7),
        (lambda a, b: jnp.einsum("bij,bjk->bik", a, b), ((4, 3, 5), (4, 5, 7)), 2 * 4 * 3 * 5 * 7),
        (jax.jit(lambda a, b: (a @ b) @ b), ((3, 5), (5, 5)), 2 * 2 * 3 * 5 * 5),
        (jax.checkpoint(lambda a, b: a @ b), ((3, 5), (5, 7)), 2 * 3 * 5 * 7),
        (
            lambda a, b: jax.lax.scan(lambda x, _: (x @ b, None), a, None, length=6)[0],
            ((3, 5), (5, 5)),
            6 * 2 * 3 * 5 * 5,
        ),
        (
            lambda a, b: jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: a @ b @ b),
            ((3, 5), (5, 5)),
            2 * 2 * 3 * 5 * 5,
        ),
        (lambda a, b: a + 1, ((3, 5), (5, 5)), 0),
    ],
)
def test_operations(function, shapes, expected):
    assert flops.of(function, *(matrix(*shape) for shape in shapes)) == expected


def convolve(x, kernel):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)


def terms(size, width):
    """Products of pixels and taps along one side, without those with padding."""
    return sum(0 <= i + j - width // 2 < size for i in range(size) for j in range(width))


def test_operations_of_convolutions_leave_padding_out():
    x, kernel = matrix(2, 8, 8, 3), matrix(3, 3, 3, 5)
    one = 2 * 2 * terms(8, 3) ** 2 * 3 * 5
    assert flops.of(convolve, x, kernel) == pytest.approx(one)
    # Backwards there are two as large: of the images, and of the kernel.
    both = jax.grad(lambda x, k: jnp.sum(convolve(x, k) ** 2), argnums=(0, 1))
    assert flops.of(both, x, kernel) == pytest.approx(3 * one)


def test_operations_of_a_network_are_those_of_its_formula():
    """A RIN of one block without an MLP on the tape, counted by hand."""
    rin = RIN(
        image_size=8,
        channels=1,
        num_classes=0,
        patch_size=2,
        num_layers=(1,),
        latent_slots=4,
        latent_dim=8,
        latent_mlp_ratio=2,
        latent_heads=2,
        tape_dim=8,
        tape_mlp_ratio=0,
        rw_heads=2,
    )
    x, memory = jnp.zeros((1, 8, 8, 1)), rin.initial_memory(1)
    params = jax.eval_shape(rin.init, jax.random.key(0), x, jnp.zeros(1), None, memory)
    run = lambda p: rin.apply(p, x, jnp.zeros(1), None, memory)
    tape, slots, d, pixels = 16, 4, 8, 4
    attention = lambda q, k: 2 * d * d * (2 * q + 2 * k) + 2 * 2 * q * k * d
    mlp = lambda n: 2 * 2 * n * d * 2 * d
    stem = 2 * tape * pixels * d
    noise = 2 * 2 * d + 2 * d * d
    layers = attention(slots, tape) + mlp(slots) + attention(slots, slots) + mlp(slots)
    expected = stem + noise + mlp(slots) + layers + attention(tape, slots) + 2 * tape * d * pixels
    assert flops.of(run, params) == expected


LOOP = """HloModule jit_step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%a, %b)
}

%fused (param_0.1: f32[6,64,64], param_1.2: s32[]) -> f32[64,64] {
  %param_0.1 = f32[6,64,64]{2,1,0:T(8,128)} parameter(0)
  %param_1.2 = s32[]{:T(128)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %slice = f32[1,64,64]{2,1,0:T(8,128)} dynamic-slice(%param_0.1, %param_1.2, %zero, %zero), dynamic_slice_sizes={1,64,64}
  ROOT %bitcast.1 = f32[64,64]{1,0:T(8,128)} bitcast(%slice)
}

%body (arg: (s32[], f32[64,64], f32[6,64,64])) -> (s32[], f32[64,64], f32[6,64,64]) {
  %arg = (s32[]{:T(128)}, f32[64,64]{1,0:T(8,128)}, f32[6,64,64]{2,1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %x = f32[64,64]{1,0:T(8,128)} get-tuple-element(%arg), index=1
  %w = f32[6,64,64]{2,1,0:T(8,128)} get-tuple-element(%arg), index=2
  %layer = f32[64,64]{1,0:T(8,128)S(1)} fusion(%w, %i), kind=kLoop, calls=%fused
  %dot = f32[64,64]{1,0:T(8,128)} dot(%x, %layer), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %ar-start = f32[64,64]{1,0:T(8,128)} all-reduce-start(%dot), channel_id=1, replica_groups=[2,4]<=[8], to_apply=%sum
  %ar-done = f32[64,64]{1,0:T(8,128)} all-reduce-done(%ar-start)
  ROOT %out = (s32[], f32[64,64]{1,0}, f32[6,64,64]{2,1,0}) tuple(%i, %ar-done, %w)
}

%condition (arg.1: (s32[], f32[64,64], f32[6,64,64])) -> pred[] {
  %arg.1 = (s32[], f32[64,64]{1,0}, f32[6,64,64]{2,1,0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

ENTRY %main (x.1: f32[64,64], w.1: f32[6,64,64]) -> f32[64,512] {
  %x.1 = f32[64,64]{1,0:T(8,128)} parameter(0)
  %w.1 = f32[6,64,64]{2,1,0:T(8,128)} parameter(1)
  %start = s32[]{:T(128)} constant(0)
  %init = (s32[], f32[64,64]{1,0}, f32[6,64,64]{2,1,0}) tuple(%start, %x.1, %w.1)
  %loop = (s32[], f32[64,64]{1,0}, f32[6,64,64]{2,1,0}) while(%init), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"6"}}
  %y = f32[64,64]{1,0:T(8,128)} get-tuple-element(%loop), index=1
  %half = bf16[64,64]{1,0:T(8,128)(2,1)} convert(%y)
  ROOT %gather = f32[64,512]{1,0:T(8,128)} all-gather(%y), channel_id=2, replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={1}
}
"""


def test_a_loop_counts_as_often_as_it_runs():
    module, square = hlo.Module(LOOP), 64 * 64 * 4
    reduce, gather = sorted(module.collectives(), key=lambda c: c.kind, reverse=False)[::-1]
    assert (gather.kind, gather.bytes, gather.parts, gather.times) == (
        "all-gather",
        8 * square,
        8,
        1,
    )
    assert (reduce.kind, reduce.bytes, reduce.parts, reduce.times) == ("all-reduce", square, 4, 6)
    assert reduce.moved == 6 * 2 * square * 3 / 4 and gather.moved == 8 * square * 7 / 8
    # In the loop: a slice read (its result stays in fast memory), a product's operand and result, the sum.
    loop = 6 * (square + 2 * square + square)
    assert module.bytes() == pytest.approx(loop + 1.5 * square + 9 * square, rel=0.01)


def test_bytes_of_a_program_that_is_there():
    """Of products in a loop, compiled for this machine."""

    def run(x, w):
        return jax.lax.scan(lambda x, _: (jnp.sin(x @ w), None), x, None, length=50)[0]

    text = jax.jit(run).lower(matrix(128, 256), matrix(256, 256)).compile().as_text()
    once = 4 * (
        2 * 128 * 256 + 256 * 256
    )  # the product alone; sine and what a CPU copies come on top
    assert 50 * once <= hlo.Module(text).bytes() <= 4 * 50 * once
    assert hlo.Module(text).collectives() == []


def test_slices():
    assert chips.parse("v5e:16x16").size == 256 and chips.parse("v4:4x4x8").size == 128
    assert chips.parse("v6e:4x8").name == "v6e:4x8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v5e-256", "expected CHIP:SHAPE, such as v5e:16x16"),
        ("v5x:4x4", "unknown chip 'v5x'. Did you mean 'v5p'"),
        ("v5e:4x4x4", "slices of v5e have 2 dimensions, such as v5e:4x4"),
        ("v5e:32x32", "there is no such slice of v5e; .* 16 at most"),
        ("v4:4x4x6", "a multiple of 4"),
    ],
)
def test_no_such_slice(text, message):
    with pytest.raises(ValueError, match=message):
        chips.parse(text)


def test_the_slowest_of_three_bounds_the_time():
    topology = chips.parse("v5e:16x16")
    all_reduce = hlo.Collective("all-reduce", 10**9, 256, 1)
    program = Program("step", 0, 0, 197e12 * 0.02, 0.0, int(0.81e12 * 0.05), [all_reduce], 1.0)
    least = roofline.of(program, topology)
    assert least.compute == pytest.approx(0.02) and least.memory == pytest.approx(0.05)
    # Both dimensions, both directions of their rings.
    assert least.links == pytest.approx(2e9 * 255 / 256 / (4 * 45e9))
    assert least.time == least.memory and least.bound == "memory"
    assert least.utilization == pytest.approx(0.4)
    assert topology.link_bandwidth(16) == 2 * 45e9  # one dimension
    assert chips.parse("v5e:4x8").link_bandwidth(8) == 45e9  # whose ends are not joined


def test_what_is_tried_keeps_the_batch_and_the_chips():
    config, topology = imagenet64_rin.get_config(), chips.parse("v5e:4x4")
    config.network.remat = "none"
    tried = list(fitting.candidates(config, topology))
    assert tried[0] == {"network.remat": "dots"} and tried[1] == {"network.remat": "layer"}
    assert {"network.remat": "layer", "partition.mesh": "fsdp=4"} in tried
    assert any("train.microbatches" in changes for changes in tried)
    assert any("tokens=2" in changes.get("partition.mesh", "") for changes in tried)
    for changes in tried:
        changed = fitting.with_changes(config, changes)
        experiment.from_config(changed)
        assert changed.train.batch_size == config.train.batch_size
    assert config.network.remat == "none"
    assert fitting.written(config, tried[1]) == "--config.network.remat=layer"


def test_the_first_that_fits_ends_it():
    seen = []

    def attempt(config):
        seen.append(config.network.remat)
        if config.network.remat == "dots":
            raise DoesNotFit("training step", 20.0 * 2**30, 16.0 * 2**30)
        return "program"

    found = list(fitting.fit(digits.get_config(), chips.parse("v5e:1x1"), attempt))
    assert seen == ["dots", "layer"] and found[-1][2] == "program"
    assert "needs 20.0 GiB of each chip, which has 16.00 GiB" in str(found[0][1])


@pytest.mark.parametrize(
    ("said", "needed"),
    [
        ("Ran out of memory in memory space hbm. Used 19.72G of 15.75G hbm. Exceeded", 19.72),
        (
            "Ran out of memory on HBM, the total memory required for HLO temporaries (15.87G) exceeds "
            "available HBM (15.75G).",
            15.87,
        ),
    ],
)
def test_what_the_compiler_says_of_too_little_memory(said, needed):
    def compile_it():
        raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {said}")

    with pytest.raises(DoesNotFit) as caught:
        programs._fitting("training step", compile_it)
    assert caught.value.needed == pytest.approx(needed * 2**30)
    assert caught.value.limit == pytest.approx(15.75 * 2**30)


def test_other_errors_of_the_compiler_are_raised():
    def compile_it():
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        programs._fitting("training step", compile_it)


def preflight(*args):
    return subprocess.run(
        [sys.executable, "-m", "launch.preflight", *args],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@NEEDS_LIBTPU
def test_a_config_is_compiled_for_chips_that_are_not_there():
    done = preflight(
        "--config=configs/digits.py", "--topology=v5e:2x2", "--config.partition.mesh=fsdp=2"
    )
    assert done.returncode == 0, done.stderr
    assert "training step, on each of 4 chips" in done.stdout and "sampler, on each" in done.stdout
    assert "all-reduce over" in done.stdout and "at most" in done.stdout


@pytest.mark.slow
@NEEDS_LIBTPU
def test_what_does_not_fit_is_told_with_what_to_change():
    done = preflight(
        "--config=configs/imagenet64_rin.py",
        "--topology=v5e:1x1",
        "--nosampler",
        "--config.train.batch_size=4096",
    )
    assert done.returncode == 1
    assert "the training step needs" in done.stdout and "--config.network.remat=" in done.stdout


def test_mistakes_are_told_before_anything_is_compiled():
    done = preflight("--config=configs/digits.py", "--topology=v5e-4")
    assert done.returncode == 2 and "expected CHIP:SHAPE" in done.stderr
    assert np.size(CHIPS) and "Traceback" not in done.stderr
