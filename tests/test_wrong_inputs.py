"""Wrong inputs: each ends in one message that names what is wrong, exit code 2, and nothing written.

The commands run in this process, flags and all. A row is a command line and words of its message. `{dir}` is
a folder of good and bad files, listed before and after; `{root}` is the checkout.
"""

import dataclasses
import importlib
import io
import json
import pathlib
import pickle
import re
import struct
import time
import types
import zipfile

import in_process
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import common, digits
from noise_sched import (
    audit,
    convert,
    evaluate,
    experiment,
    fit_steps,
    levels,
    networks,
    prepare,
    reconstruct,
    sampler_sweep,
    sweep,
    train,
)
from noise_sched.experiment import ranges, workdir
from noise_sched.training.checkpoints import Checkpoints

ROOT = pathlib.Path(__file__).parent.parent
TINY = "--config={root}/configs/digits.py:tiny"
HUGE = 10**30

# ---- train: numbers. Every value is refused by the table of ranges, with the key, the value and the range.

NUMBERS = {
    "seed": ("-1", "1.5", "4294967296", str(2**70), "abc", "True", "nan", "1e3"),
    "sigma_data": ("0", "-0.5", "inf", "nan", "1e39", "half"),
    "label_dropout": ("-0.1", "1.5", "nan", "inf", "10%"),
    "loss.self_conditioning": ("-1", "1.01", "nan"),
    "loss.offset_noise": ("-0.1", "inf", "nan"),
    "data.image_size": ("0", "-8", "8.5", "1000000", "(8,8)", str(HUGE)),
    "data.channels": ("0", "-3", "rgb", "3.0"),
    "augment.probability": ("-0.1", "2", "nan"),
    "network.num_classes": ("-1", "ten", "1e1", str(HUGE)),
    "network.augment_dim": ("-1", "9.0"),
    "network.patch_size": ("0", "-2", "2.5", str(2**62)),
    "network.latent_slots": ("0", "-1", "many"),
    "network.latent_dim": ("0", "16.5", str(HUGE)),
    "network.latent_mlp_ratio": ("0", "-4", "99999"),
    "network.latent_heads": ("0", "-2"),
    "network.tape_dim": ("0", "-512"),
    "network.tape_mlp_ratio": ("-1", "2.5"),
    "network.rw_heads": ("0", "-16"),
    "network.drop_units": ("1", "-0.1", "nan", "inf"),
    "network.drop_path": ("1.0", "-0.5", "nan"),
    "optimizer.learning_rate": ("-0.001", "inf", "nan", "1e400", "fast"),
    "optimizer.warmup_steps": ("-1", "0.5", str(HUGE)),
    "optimizer.warmup_images": ("-5", "x"),
    "optimizer.end_factor": ("-0.1", "1.1", "nan"),
    "optimizer.weight_decay": ("-0.01", "inf", "nan"),
    "optimizer.b1": ("1", "-0.1", "1.5", "nan"),
    "optimizer.b2": ("1.0", "-1", "inf"),
    "optimizer.eps": ("0", "-1e-8", "nan"),
    "optimizer.clip_norm": ("-1", "nan", "inf"),
    "optimizer.infinite_gradient": ("-1.0", "inf", "nan"),
    "train.skip_nonfinite": ("-1", "2.5", "some"),
    "ema.decay": ("1", "1.5", "-0.1", "nan"),
    "ema.halflife_images": ("-5", "-0.5"),
    "ema.rampup_ratio": ("-0.05", "inf", "nan"),
    "ema.snapshot_every": ("-1", "2.5"),
    "train.steps": ("0", "-3", "1e23", str(10**23), "nan", "all"),
    "train.batch_size": ("0", "-8", "8.5", str(HUGE)),
    "train.microbatches": ("0", "-1", "1.5"),
    "train.log_every": ("0", "-100", "0.5"),
    "train.checkpoint_every": ("0", "-1", "1e3"),
    "train.keep": ("0", "-3", "last"),
    "train.image_every": ("-1", "0.5"),
    "sample.seed": ("-1", str(2**70), "0.5"),
    "sample.steps": ("0", "-50", str(10**12), "2.5"),
    "sample.batch_size": ("0", "-64", str(10**12)),
    "sample.ema_std": ("-0.05", "1", "nan", "inf"),
}

# Tuples are literals on the command line.
TUPLES = {
    "network.num_layers": ("(1.5,)", "()", "(-1, 1)", "(True,)", "(None,)", "('4',)", "(2000,)"),
    "ema.stds": ("(0.05, -0.1)", "(0,)", "(1.5,)", "('0.05',)", "(1e999,)"),
    "sample.classes": ("(-1,)", "(3.5,)", "('seven',)", "(True,)"),
}

SWITCHES = {
    "data.flip": ("maybe", "2", "None"),
    "ema.warmup": ("yes please", "0.5"),
    "loss.clip_x0": ("-1", "x"),
    "optimizer.sanitize": ("nope",),
}


def given(table):
    return [(key, value) for key, values in table.items() for value in values]


# ---- train: everything else that an override can do wrong.

DEEP = "zero_terminal(" * 30 + "cosine()" + ")" * 30
OVERRIDES = [
    ("schedule=sigmiod()", "config.schedule: unknown schedule 'sigmiod'.*Did you mean 'sigmoid'"),
    ("schedule=", "config.schedule: cannot read the schedule ''.*for example"),
    ("schedule=5", "config.schedule: .*expected a name"),
    ("train.density=adaptve()", "config.train.density: unknown density.*Did you mean 'adaptive'"),
    ("train.density=adaptive(bins=0)", r"adaptive\(bins\) must be at least 1.*got 0"),
    ("train.density=adaptive(share=0)", r"adaptive\(share\) must lie in \(0, 1\], got 0"),
    ("sample.schedule=from_levels([2, 1])", "from_levels: logSNR 1.0 of level 2 after 2.0"),
    ("schedule=linear(", "config.schedule: cannot read"),
    ("schedule=linear)", "config.schedule: cannot read"),
    ("schedule=linear(True)", "clip_min of linear must be a finite number, got True"),
    ("schedule=linear(None)", "clip_min of linear must be a finite number, got None"),
    ("schedule=linear('0.1')", "clip_min of linear must be a finite number, got '0.1'"),
    ("schedule=linear([0.1])", r"clip_min of linear must be a finite number, got \[0.1\]"),
    ("schedule=linear({})", "clip_min of linear must be a finite number, got {}"),
    ("schedule=linear({[]: 1})", "not a literal"),
    ("schedule=linear(1j)", "clip_min of linear must be a finite number, got 1j"),
    ("schedule=linear(1e999)", "clip_min of linear must be a finite number, got inf"),
    ("schedule=linear(-1e999)", "clip_min of linear must be a finite number, got -inf"),
    ("schedule=linear(1e-300)", "clip_min of linear must be a finite number, got 1e-300"),
    ("schedule=linear(clip_min=nan)", "'nan' is not a literal"),
    ("schedule=linear(cosine())", r"clip_min of linear must be a finite number, got cosine\(\)"),
    ("schedule=linear(0, 1)", "too many positional arguments.*The call is linear"),
    ("schedule=linear(clip=0)", r"unexpected keyword argument 'clip'.*Did you mean 'clip_min'"),
    ("schedule=linear(clip_min=0, clip_min=0)", "an argument is given twice"),
    ("schedule=linear(*[0])", "not a literal"),
    ("schedule=linear(**{})", "'\\*\\*' is not allowed"),
    ("schedule=linear()()", "expected a name"),
    ("schedule=linear().gamma(0)", "expected a name"),
    ("schedule=__import__('os').system('true')", "expected a name"),
    ("schedule=linear(lambda: 0)", "not a literal"),
    ("schedule=linear(1 if 1 else 0)", "not a literal"),
    ("schedule=linear(clip_min:=0)", "not a literal"),
    ("schedule=linear(f'{0}')", "not a literal"),
    ("schedule=linear; cosine", "cannot read"),
    ("schedule=sigmoid(3, -3)", "sigmoid.start, end. needs .* start < end"),
    ("schedule=sigmoid(tau=0)", "tau. must be positive, got 0"),
    ("schedule=sigmoid(tau=-1)", "tau. must be positive, got -1"),
    ("schedule=sigmoid(1e300, 3)", "start of sigmoid must be a finite number, got 1e\\+300"),
    ("schedule=cosine(0, 2)", "cosine.start, end. needs 0 <= start < end <= 1"),
    ("schedule=scaled_linear(levels=1000000000000)", "levels of scaled_linear.*up to 1,000,000"),
    (
        "schedule=scaled_linear(levels=-5)",
        "levels. must be at least 1 and at most 1,000,000, got -5",
    ),
    ("schedule=scaled_linear(levels=10.5)", "levels of scaled_linear must be a whole number"),
    ("schedule=scaled_linear(levels=True)", "levels of scaled_linear must be a whole number"),
    ("schedule=scaled_linear(levels='1000')", "levels of scaled_linear must be a whole number"),
    ("schedule=from_betas(0.1)", "betas of from_betas must be a list of finite numbers, got 0.1"),
    ("schedule=from_betas(['0.1'])", "betas of from_betas must be a list of finite numbers"),
    ("schedule=from_betas([[0.1]])", "betas of from_betas must be a list of finite numbers"),
    ("schedule=from_betas([0.1, True])", "betas of from_betas must be a list of finite numbers"),
    ("schedule=from_betas([1e999])", "betas of from_betas must be a list of finite numbers"),
    ("schedule=from_betas([])", "config.schedule: .*empty"),
    (
        "schedule=zero_terminal('cosine()')",
        "schedule of zero_terminal must be a schedule, for example",
    ),
    ("schedule=zero_terminal(0.5)", "schedule of zero_terminal must be a schedule, for example"),
    ("schedule=zero_terminal([cosine()])", "not a literal"),
    ("schedule=zero_terminal(vp())", "unknown schedule 'vp'"),
    ("schedule=discrete(cosine(), levels='10')", "levels of discrete must be a whole number"),
    ("schedule=align_your_steps(15)", "model of align_your_steps must be a string, got 15"),
    (f"schedule={DEEP}", "nested 31 deep, at most 20"),
    (f"schedule={'(' * 5000}linear(){')' * 5000}", "nested 5001 deep, at most 20"),
    (f"schedule=linear({'-' * 5000}1)", "config.schedule: cannot read the schedule 'linear.---"),
    (f"schedule=linear({'9' * 5000})", "config.schedule: cannot read .*limit"),
    (f"schedule=linear({' ' * 300_000})", "300,008 characters long; at most 200,000"),
    (f"schedule=from_betas([{'0.1,' * 60_000}])", "240,014 characters long"),
    ("schedule=linear(\0)", "config.schedule: cannot read .*null"),
    ("schedule=linear(\udcff)", "config.schedule: cannot read .*surrogates"),
    ("schedule=lineár()", "unknown schedule 'lineár'.*Did you mean 'linear'"),
    ("process=ve", "config.process='ve\\(\\)' has no zero SNR"),
    ("process=vp(input_scale=0)", "must be positive, got 0"),
    ("process=vp(1e-50)", "input_scale of vp must be a finite number, got 1e-50"),
    ("process=linear()", "config.process: unknown process 'linear'"),
    ("parametrization=epsilon()", "config.parametrization: unknown.*There are: "),
    ("parametrization=edm(sigma)", "'sigma' is not a literal.*the shared sigma_data"),
    ("parametrization=edm(sigma_data=0)", "sigma_data. must be positive"),
    ("input_scale=analytic('x')", "sigma_data of analytic must be a finite number"),
    ("conditioning=index('scaled_linear')", "schedule of index must be a schedule"),
    ("conditioning=gamma(scale=1e40)", "scale of gamma must be a finite number"),
    ("loss.space=w()", "config.loss.space: unknown parametrization 'w'"),
    ("loss.weight=min_snr(-5)", "config.loss.weight: .*positive, got -5"),
    ("loss.weight=uniform(0)", "space of uniform must be a parametrization.*or None, got 0"),
    ("loss.reduction=avg", "'mean' or 'sum'.*got 'avg'"),
    ("loss.reduction=", "'mean' or 'sum'.*got ''"),
    ("loss.uncertainty=True", "config.loss.uncertainty=True, but RIN does not say"),
    ("data.name=", "the data set name ''"),
    ("data.name=folder:", "'folder:' names no folder"),
    ("data.name=folder: ", "'folder: ' names no folder"),
    ("data.name=folder:{dir}/nowhere", "does not exist"),
    ("data.name=folder:{dir}/notes.txt", "is a file, not a folder"),
    ("data.name=folder:{dir}/empty", "there is no image in"),
    ("data.name=folder:{dir}/bad_images", "1 of 1 files cannot be read as images: a.png"),
    ("data.name=folder:{dir}/bomb", "cannot be read as images: .*exceeds limit"),
    ("data.name=../../etc", "the data set name '../../etc'"),
    ("data.name=cifra10", "did you mean 'cifar10'"),
    ("data.name=digits/8x8", "digits"),
    ("data.split=", "digits|split"),
    ("data.data_dir={dir}/notes.txt", "notes.txt', which is a file; expected a folder"),
    ("network.name=RINN", "config.network.name: unknown network 'RINN'. Did you mean 'RIN'"),
    ("network.name=", "config.network.name: unknown network ''"),
    ("network.name=UNetSmall", "config.network.drop_path: unknown UNetSmall field"),
    ("network.dtype=float16", "config.network.dtype: unknown dtype 'float16'.*float32, bfloat16"),
    ("network.patch_size=3", "patch_size=3 does not divide"),
    ("network.latent_heads=3", "config.network.*latent_heads"),
    ("network.num_classes=7", "config.network.num_classes=7, but 'digits' has 10|num_classes"),
    ("network.num_layers=4 4", "config.network.num_layers"),
    ("network.num_layers=[[4]]", "config.network.num_layers"),
    ("optimizer.name=sgd", "config.optimizer.name: unknown optimizer 'sgd'"),
    ("optimizer.name=", "config.optimizer.name: unknown optimizer ''"),
    ("optimizer.decay=cosine@2", "cosine@2.*above 0 and at most 1"),
    ("optimizer.decay=cosine@", "cosine@.*above 0 and at most 1"),
    ("optimizer.decay=cosine@nan", "cosine@nan.*above 0 and at most 1"),
    ("optimizer.decay=inverse_sqrt@0", "inverse_sqrt@0.*at least 1"),
    ("optimizer.decay=", "unknown learning-rate decay ''"),
    ("optimizer.warmup_steps=100", "warmup_steps=100.*leave no step of"),
    (
        "optimizer.warmup_images=100",
        "warmup_images=100 and config.optimizer.warmup_steps=1 are two",
    ),
    ("optimizer.normalize_weights=True", "config.optimizer.normalize_weights=True would change"),
    ("ema.stds=(0.05, 0.05)", "config.ema.stds: each width once"),
    ("ema.stds=(0.5,)", "config.ema.stds: .*below 0.2887"),
    ("ema.snapshot_every=5", "config.ema.snapshot_every=5.*Set stds"),
    ("ema.halflife_images=5", "config.ema.halflife_images=5 and config.ema.warmup=True"),
    ("sample.ema_std=0.05", "config.sample.ema_std: there is no average of width 0.05"),
    ("partition.mesh=fsdp=3", "config.partition.mesh='fsdp=3': fsdp=3 does not divide"),
    (
        "partition.mesh=data=8",
        "config.partition.mesh='data=8': the mesh data=8 does not make up the 1",
    ),
    (
        "partition.mesh=model=2",
        "config.partition.mesh='model=2': .* has an axis 'model'. .*data, fsdp",
    ),
    ("partition.mesh=fsdp=two", "gives fsdp the size 'two'"),
    ("partition.mesh=fsdp=1,fsdp=1", "has the axis fsdp twice"),
    ("network.remat=layers", "Unknown remat 'layers'.* 'layer'"),
    ("train.microbatches=3", "a batch of 8 .batch_size. does not divide over .* 3 microbatches"),
    ("sample.schedule=plain_cosin()", "config.sample.schedule: .*Did you mean 'plain_cosine'"),
    ("sample.grid=uniform(3)", "config.sample.grid: .*too many positional"),
    ("sample.grid=trailing(levels=0.5)", "levels of trailing must be a whole number"),
    ("sample.solver=ddim(eta=2)", "config.sample.solver: "),
    ("sample.solver=ddim(eta=True)", "eta of ddim must be a finite number, got True"),
    ("sample.solver=dpmpp(order=9)", "config.sample.solver: .*order"),
    ("sample.solver=dpmpp(order='2')", "order of dpmpp must be a whole number"),
    (
        "sample.solver=dpmpp(lower_order_final=1)",
        "lower_order_final of dpmpp must be True or False",
    ),
    ("sample.solver=heun(clock='by_sigma')", "clock of heun must be a clock, for example"),
    ("sample.solver=heun(frame=3)", "frame of heun must be a string or None, got 3"),
    ("sample.solver=heun(s_tmax=1e999)", "s_tmax of heun must be a finite number or None, got inf"),
    ("sample.guidance=cfg(-1)", "config.sample.guidance: .*non-negative"),
    ("sample.guidance=cfg(3, space='v')", "space of cfg must be a parametrization"),
    ("sample.guidance=interval(3, 0, 1)", "guidance of interval must be a guidance"),
    ("sample.guidance=autoguide(2)", "autoguide.*needs the workdir of a worse model"),
    ("sample.guide_workdir={dir}/run", "do not fit"),
    ("sample.threshold=static(0)", "config.sample.threshold: "),
    ("sample.threshold=dynamic(percentile=2)", r"config.sample.threshold: .*\(0, 1\]"),
    ("sample.classes=(12,)", r"config.sample.classes contains \[12\].*classes 0 to 9"),
    ("sample.classes=(", "config.sample.classes"),
    ("sample.classes=seven", "config.sample.classes"),
    ("train.stpes=3", "unknown key --config.train.stpes. Did you mean 'steps'"),
    ("trian.steps=3", "unknown key --config.trian.steps. Did you mean 'train'"),
    ("stepss=3", "unknown key --config.stepss."),
    ("=3", "unknown key --config.."),
    ("seed.x=3", "unknown key --config.seed.x"),
    ("train.steps.x=3", "unknown key --config.train.steps.x"),
    ("train=5", "--config.train is a section of the config: change a key of it, such as"),
    ("train={'steps': 5}", "--config.train is a section of the config"),
    ("network=UNetSmall", "--config.network is a section of the config"),
    ("loss=", "--config.loss is a section of the config"),
]

# ---- train: other flags.

TRAIN = [
    ((), "--config is missing"),
    (("--config=",), "--config= names no file"),
    (("--config",), "config"),
    (("--config={root}/configs/digit.py",), "there is no file .*Did you mean .*digits.py"),
    (("--config={dir}/nowhere/digits.py",), "there is no file"),
    (
        ("--config={root}/configs",),
        "is a folder; give a file. Of its .py files: .*afhqv2_64_edm.py",
    ),
    (("--config={dir}/notes.txt",), "notes.txt is no .py file"),
    (("--config={dir}/samples.npz",), "samples.npz is no .py file"),
    (("--config=\0.py",), "is no name of a file"),
    ((f"--config={'a' * 5000}.py",), "is no name of a file"),
    (("--config={root}/configs/digits.py:tny",), "unknown variant 'tny'"),
    (("--config={root}/configs/digits.py:tiny:tiny",), "unknown variant 'tiny:tiny'"),
    (("--config={root}/configs/cifar10_edm.py:A,F",), "'A' and 'F' exclude each other"),
    (("--config={root}/configs/cifar10_edm.py:G",), "unknown variant 'G'.*Known:"),
    (("--config.seed=1",), "--config.seed changes a config, but there is no --config=FILE.py"),
    ((TINY, "--wrokdir=x"), "Unknown command line flag 'wrokdir'. Did you mean: workdir"),
    ((TINY, "runs/digits"), "unexpected argument 'runs/digits'"),
    ((TINY, "--distributed=maybe"), "distributed.*maybe"),
    ((TINY, "--workdir="), "--workdir= is empty; give it, for example --workdir=runs/digits"),
    ((TINY, "--workdir= "), "--workdir=  is empty"),
    ((TINY, "--workdir"), "workdir"),
]
NO_WORKDIR = [((TINY,), "--workdir is missing; give it")]

# ---- train: what a config file may be. Each is {dir}/config.py, with the imports before it.

FILES = {
    "": "has no function get_config",
    "get_config = 3": "has no function get_config",
    "def get_config(: pass": "invalid syntax|SyntaxError in .*config.py, line",
    "def get_config():\nreturn 1": r"IndentationError in .*config.py, line 5",
    "import nonsuch_module": "No module named 'nonsuch_module' .ModuleNotFoundError in .*line 4",
    "1 / 0": "division by zero .ZeroDivisionError in .*config.py, line 4",
    "raise SystemExit(0)": "SystemExit in .*line 4",
    "sys.exit('stop')": "stop .SystemExit in .*line 4",
    "def f(): f()\nf()": "maximum recursion depth exceeded.*RecursionError",
    "x = '\\ud800' + undefined": "name 'undefined' is not defined .NameError",
    "def get_config(): raise RuntimeError('no data today')": "no data today .RuntimeError in .*line 4",
    "def get_config(): raise KeyError('stps')": "stps .KeyError in",
    "def get_config(): raise ValueError": "no reason given .ValueError in",
    "def get_config(): raise OSError('disk')": "disk .OSError in",
    "def get_config(): raise TypeError('wrong')": "wrong .TypeError in",
    "def get_config(): raise MemoryError": "MemoryError in",
    "def get_config(): sys.exit(0)": "SystemExit in",
    "def get_config(): exit()": "SystemExit in|NameError in",
    "def get_config(): pass": r"get_config\(\) returned None of type NoneType, no ConfigDict",
    "def get_config(): return {}": r"get_config\(\) returned {} of type dict, no ConfigDict",
    "def get_config(): return 'digits'": "returned 'digits' of type str, no ConfigDict",
    "def get_config(): return common": "of type module, no ConfigDict",
    "def get_config(): yield common.base()": "of type generator, no ConfigDict",
    "def get_config(): return ConfigDict()": "config.seed is missing: begin with configs.common.base",
    "def get_config(variant): return common.base()": "get_config needs a variant",
    "def get_config(a, b): return common.base()": "get_config needs a variant",
    "c.train.stps = 5": "unknown key config.train.stps. Did you mean 'steps'",
    "c.smaple = 5": "unknown key config.smaple. Did you mean 'sample'",
    "c.optimiser = ConfigDict(dict(name='adam'))": "config.optimiser.name: config.optimiser is unknown. Did",
    "c.network.latent_slot = 3": "config.network.latent_slot: unknown RIN field .*'latent_slots'",
    "c.network = ConfigDict(dict(num_classes=10))": "config.network.name is missing",
    "c.network = ConfigDict(dict(name='RIN'))": "config.network .RIN.: .*missing",
    "c.network = None": "config.network is a section",
    "del c.sample": "config.sample.seed is missing",
    "del c.train.keep": "config.train.keep is missing",
    "c.train = None": "config.train is a section",
    "c.train = ConfigDict(dict(steps=5))": "config.train.batch_size is missing",
    "c.train = 5": "TypeError in .*config.py, line",
    "c.train.steps = 'many'": "many.*TypeError in .*config.py, line",
    "c.train.steps = None": "config.train.steps=None: expected a whole number from 1",
    "c.train.steps = True": "config.train.steps=True: expected a whole number",
    "c.seed = None": "config.seed=None: expected a whole number from 0 to 4294967295",
    "c.seed = 2**20_000": "config.seed=a number of 20,001 bits: expected a whole number",
    "c.schedule = None": "config.schedule=None: expected a string",
    "c.sample.classes = None": "config.sample.classes=None: expected a tuple",
    "c.sample.classes = [1, 'b']": "config.sample.classes=.*expected a tuple, each a whole number",
    "c.data.flip = None": "config.data.flip=None: expected True or False",
    "c.network.num_layers = (2**200,)": "config.network.num_layers=.*whole number from 0 to 1000",
    "c.network.num_layers = 4": "TypeError in .*config.py, line",
    "c.network.scan = None": "config.network.scan=None: expected True or False",
    "c.network.tape_pos_encoding = 3": "config.network.tape_pos_encoding=3: expected a string",
    "c.network.tape_pos_encoding = 'learnt'": "tape_pos_encoding.*Did you mean 'learned'",
    "c.network.name = None": "config.network.name",
    "c.network.dtype = 16": "config.network.dtype|TypeError in",
    "c.learning_rate = 1e-4": "unknown key config.learning_rate",
    "c.update(dict(train=dict(lr=1)))": "unknown key config.train.lr",
    "c.sample.update(steps=float('nan'))": "TypeError in .*config.py, line",
    "c.optimizer.learning_rate = float('nan')": "config.optimizer.learning_rate=nan: expected a number",
    "c.lock(); c.x = 1": "AttributeError in .*config.py, line",
}
UNET = "c.network = ConfigDict(dict(name='{name}', num_classes=10, dtype='float32', {fields}))"
UNETS = [
    ("UNetSmall", "model_channels=0", "config.network.model_channels=0: expected a whole number"),
    ("UNetSmall", "model_channels=-32", "config.network.model_channels=-32"),
    ("UNetSmall", "channel_mult=()", "channel_mult=.*expected a tuple of at least 1"),
    ("UNetSmall", "channel_mult=(0,)", "config.network.channel_mult="),
    ("UNetSmall", "channel_mult=4", "config.network.channel_mult=4: expected a tuple"),
    ("UNetSmall", "channel_mult='1, 2'", "config.network.channel_mult='1, 2': expected a tuple"),
    ("UNetSmall", "num_blocks=0", "config.network.num_blocks=0"),
    ("UNetSmall", "num_blocks=10**9", "config.network.num_blocks=1000000000: expected .* to 1000"),
    ("UNetSmall", "num_blocks=1.5", "config.network.num_blocks=1.5"),
    ("UNetSmall", "attention_resolutions=(1.5,)", "config.network.attention_resolutions=.*1.5"),
    ("UNetSmall", "attention_resolutions=16", "config.network.attention_resolutions=16"),
    ("UNetSmall", "dropout=1", "config.network.dropout=1: expected a number from 0 and below 1"),
    ("UNetSmall", "dropout=True", "config.network.dropout=True"),
    ("UNetSmall", "pad_channels=0", "config.network.pad_channels=0"),
    ("UNetSmall", "latent_dim=3", "config.network.latent_dim: unknown UNetSmall field"),
    ("UNetSmall", "scan='yes'", "config.network.scan='yes': expected True or False"),
    ("ADM", "channels_per_head=0", "config.network.channels_per_head=0"),
    ("DDPMpp", "embedding=3", "config.network.embedding=3: expected a string"),
    ("DDPMpp", "resample_filter=()", "config.network.resample_filter=.*at least 1"),
    ("DDPMpp", "frequencies=(float('inf'),)", "config.network.frequencies=.*inf"),
    ("NCSNpp", "encoder='skipp', attention_resolutions=()", "encoder"),
    ("EDM2", "phases=('x',)", "config.network.phases="),
    ("EDM2", "remat='every'", "Unknown remat 'every'"),
]

# ---- the other commands.

SAMPLE = [
    ((), "--workdir is missing; give it"),
    (("--workdir=",), "--workdir= is empty"),
    (("--workdir={dir}/run",), "--out is missing; give it"),
    (("--workdir={dir}/run", "--out="), "--out= is empty"),
    (("--workdir={dir}/nowhere", "--out=o"), "there is no such folder"),
    (("--workdir={dir}/samples.npz", "--out=o"), "it is a file, no folder"),
    (("--workdir={dir}/net.pkl", "--out=o"), "it is a file, no folder"),
    (("--workdir={dir}/empty", "--out=o"), "is not a workdir: it has no config.json"),
    (("--workdir={dir}/no_json", "--out=o"), "config.json is damaged"),
    (("--workdir={dir}/list_json", "--out=o"), "config.json is damaged"),
    (("--workdir={dir}/deep_json", "--out=o"), "config.json is damaged"),
    (("--workdir={dir}/bytes_json", "--out=o"), "config.json is damaged"),
    (("--workdir={dir}/old_keys", "--out=o"), "config.train.stps|config.seed is missing"),
    (
        ("--workdir={dir}/wrong_value", "--out=o"),
        "config.sigma_data=-1.0: expected a number above 0",
    ),
    (("--workdir={dir}/untrained", "--out=o"), "has no checkpoints yet: train first"),
    (("--workdir={dir}/run", "--out=o", "--num_images=0"), "num_images.*0"),
    (("--workdir={dir}/run", "--out=o", "--num_images=-5"), "num_images.*-5"),
    (("--workdir={dir}/run", "--out=o", "--num_images=1e3"), "num_images.*1e3"),
    (("--workdir={dir}/run", "--out=o", "--num_images="), "num_images"),
    (
        ("--workdir={dir}/run", "--out=o", f"--num_images={10**12}"),
        "num_images=10+: .*GiB.*at most",
    ),
    (("--workdir={dir}/run", "--out=o", f"--num_images={HUGE}"), "num_images=10+: .*at most"),
    (("--workdir={dir}/run", "--out=o", "--step=7"), "step.* 7"),
    (("--workdir={dir}/run", "--out=o", "--step=-1"), "step.*-1"),
    (("--workdir={dir}/run", "--out=o", "--step=last"), "step.*last"),
    (("--workdir={dir}/run", "--out={dir}/notes.txt"), "notes.txt"),
    (("--workdir={dir}/run", "--out=o", "--config.sample.steps=0"), "config.sample.steps=0: exp"),
    (("--workdir={dir}/run", "--out=o", "--config.sample.stepps=9"), "Did you mean 'steps'"),
    (("--workdir={dir}/run", "--out=o", "--config.sample.solver=ddimm"), "Did you mean 'ddim'"),
    (("--workdir={dir}/run", "--out=o", "--config.sample.classes=(10,)"), r"contains \[10\]"),
    (("--workdir={dir}/run", "--out=o", "--config.sample.guidance=cfg(w)"), "'w' is not a literal"),
    (("--workdir={dir}/run", "--out=o", "--config.sample=3"), "config.sample is a section"),
    (("--workdir={dir}/run", "--out=o", "--steps=20"), "Unknown command line flag 'steps'"),
    (("--workdir={dir}/run", "--out=o", "more"), "unexpected argument 'more'"),
]
RECONSTRUCT = [
    ((), "--workdir is missing"),
    (("--workdir=", "--out=o", "--std=0.1"), "--workdir= is empty"),
    (("--workdir={dir}/run", "--std=0.1"), "--out is missing"),
    (("--workdir={dir}/run", "--out=", "--std=0.1"), "--out= is empty"),
    (("--workdir={dir}/run", "--out=o"), "--std is missing"),
    (("--workdir={dir}/run", "--out=o", "--std=nan"), "above 0 and below 0.2887.*nan"),
    (("--workdir={dir}/run", "--out=o", "--std=0"), "above 0 and below 0.2887.*0"),
    (("--workdir={dir}/run", "--out=o", "--std=-0.1"), "above 0 and below 0.2887"),
    (("--workdir={dir}/run", "--out=o", "--std=inf"), "above 0 and below 0.2887"),
    (("--workdir={dir}/run", "--out=o", "--std=wide"), "std.*wide"),
    (("--workdir={dir}/run", "--out=o", "--std=0.1", "--step=x"), "step.*x"),
    (("--workdir={dir}/run", "--out=o", "--std=0.1"), "snapshot"),
    (("--workdir={dir}/nowhere", "--out=o", "--std=0.1"), "there is no such folder"),
    (("--workdir={dir}/net.pkl", "--out=o", "--std=0.1"), "it is a file, no folder"),
    (("--workdir={dir}/run", "--out={dir}/run", "--std=0.1"), "is not empty"),
    (("--workdir={dir}/run", "--out={dir}/notes.txt", "--std=0.1"), "is a file"),
]
EVALUATE = [
    ((), "--images is missing; give it"),
    (("--images=",), "--images= is empty"),
    (("--images= ",), "--images=  is empty"),
    (("--images=gs://bucket/images",), "--images=gs://bucket/images is an address"),
    (("--images={dir}/samples.npz", "--out=gs://bucket/a.json"), "--out=gs://.* is an address"),
    (("--images={dir}/sample.npz",), "does not exist. Did you mean .*samples.npz"),
    (("--images={dir}/empty",), "holds no images .*samples.npz"),
    (
        ("--images={dir}/notes.txt",),
        "notes.txt cannot be read as an .npz file: it is another kind of file",
    ),
    (("--images={dir}/net.pkl",), "net.pkl cannot be read as an .npz file: it is a Python pickle"),
    (
        ("--images={dir}/pickle.npz",),
        "pickle.npz cannot be read as an .npz file: it is a Python pickle",
    ),
    (("--images={dir}/array.npy",), "cannot be read as an .npz file: it is a single array"),
    (("--images={dir}/empty.npz",), "cannot be read as an .npz file: it is empty"),
    (("--images={dir}/cut.npz",), "an .npz file that was cut off while being written"),
    (("--images={dir}/objects.npz",), "`images` holds Python objects"),
    (("--images={dir}/objects_labels.npz",), "`labels` holds Python objects"),
    (
        ("--images={dir}/claims_8tb.npz",),
        r"claims uint8 \[1000000, 2048, 4096, 1\].*8,388,608,000,000 b",
    ),
    (("--images={dir}/negative.npz",), "negative.npz"),
    (("--images={dir}/bomb.npz",), "claims uint8"),
    (("--images={dir}/no_images.npz",), "has no array `images`; it has: pixels"),
    (("--images={dir}/int32.npz",), r"must be uint8 .0..255. or float .*got int32"),
    (("--images={dir}/text.npz",), "must be uint8 .0..255. or float"),
    (("--images={dir}/complex.npz",), "must be uint8 .0..255. or float"),
    (("--images={dir}/flat.npz",), r"expected images of shape \[count, height, width, channels\]"),
    (("--images={dir}/none.npz",), r"expected images of shape \[count"),
    (("--images={dir}/nan.npz",), "hold NaN or infinity"),
    (("--images={dir}/range.npz",), r"must lie in \[-1, 1\]; got"),
    (("--images={dir}/few_labels.npz",), "expected one label per image"),
    (("--images={dir}/float_labels.npz",), "labels must be integers"),
    (
        ("--images={dir}/high_labels.npz",),
        "labels are no class of the reference, 0 to 9, such as 10",
    ),
    (("--images={dir}/no_labels.npz", "--metrics=class_agreement"), "has no labels"),
    (("--images={dir}/large.npz", "--metrics=contrast"), "32x32x3 cannot be compared with digits"),
    (("--images={dir}/bomb",), "a.png: samples of at most 67,108,864 pixels .*196000000"),
    (("--images={dir}/bad_images",), "a.png cannot be read as an image"),
    (("--images={dir}/sizes",), "holds images of different sizes"),
    (("--images={dir}/rgba",), "expected an 8-bit grey or RGB image; got the mode 'RGBA'"),
    (("--images={dir}/labels_deep",), "labels.json is not JSON .*recursion"),
    (("--images={dir}/labels_huge",), "the label .* is no class number"),
    (("--images={dir}/labels_digits",), "labels.json is not JSON"),
    (("--images={dir}/labels_bytes",), "labels.json is not JSON"),
    (("--images={dir}/labels_text",), "not every label is an integer"),
    (("--images={dir}/labels_bool",), "not every label is an integer"),
    (("--images={dir}/labels_null",), "not every label is an integer"),
    (("--images={dir}/labels_few",), "expected one label per image, 1 in all"),
    (("--images={dir}/labels_none",), "has no label for 1 of 1 images"),
    (("--images={dir}/label_in_name",), "the label .* is no class number"),
    (("--images={dir}/samples.npz", "--metrics="), "--metrics= names no metric. There are:"),
    (("--images={dir}/samples.npz", "--metrics=,"), "There is no metric ''"),
    (("--images={dir}/samples.npz", "--metrics=contrast,contrast"), "names contrast twice"),
    (("--images={dir}/samples.npz", "--metrics=contrst"), "Did you mean 'contrast'"),
    (
        ("--images={dir}/samples.npz", "--metrics=fid"),
        "fid needs at least 2,000 images; got .*. kid would do with fewer",
    ),
    (("--images={dir}/samples.npz", "--reference="), "--reference='' names no images"),
    (("--images={dir}/samples.npz", "--reference=digit"), "did you mean 'digits'"),
    (("--images={dir}/samples.npz", "--reference=digits@test"), "--reference=digits: .*split"),
    (("--images={dir}/samples.npz", "--reference={dir}/net.pkl"), "net.pkl"),
    (("--images={dir}/samples.npz", "--resize=bicubic"), "expected antialias"),
    (("--images={dir}/samples.npz", "--num_images=0"), "num_images.*0"),
    (
        ("--images={dir}/run", "--step=last", "--metrics=contrast"),
        "--step=last: expected the number",
    ),
    (("--images={dir}/untrained", "--metrics=contrast"), "has no checkpoints yet"),
    (("--images={dir}/samples.npz", "--out="), "--out='' is no path"),
    (("--images={dir}/samples.npz", "--out={dir}/folder.json"), "is a folder. Name a file"),
    (("--images={dir}/samples.npz", "--out={dir}/notes.txt"), "notes.txt is a file. Give a folder"),
    (("--images={dir}/samples.npz", "--out={dir}/notes.json"), "holds another report"),
    (("--images={dir}/samples.npz", "--out={dir}/notes.txt/r.json"), "notes.txt is no folder"),
    (("--images={dir}/samples.npz", "--overwrite=perhaps"), "overwrite.*perhaps"),
    (("--images={dir}/samples.npz", "--metric=contrast"), "Unknown command line flag 'metric'"),
]
DIFFUSERS = "--diffusers={dir}/scheduler.json"
LEVELS = [
    ((), "--workdir"),
    (("--workdir={dir}/nowhere",), "nowhere"),
    (("--workdir={dir}/run", "--out={dir}/nowhere/a.png"), "--out=.*expected a file"),
    (("--workdir={dir}/run", "--num_images=1"), "num_images.*1"),
]

FIT_STEPS = [
    (("--workdir={dir}/nowhere", "--steps=4"), "nowhere"),
    (("--workdir={dir}/run",), "--steps"),
    (("--workdir={dir}/run", "--steps=0"), "--steps=0: expected whole numbers from 1"),
    (("--workdir={dir}/run", "--steps=4,x"), "--steps=4,x: expected whole numbers from 1"),
    (("--workdir={dir}/run", "--steps=40"), "cannot be chosen from a fine grid of --grid=40"),
    (("--workdir={dir}/run", "--steps=4", "--out={dir}/notes.txt"), "is a file; give a folder"),
    (
        ("--workdir={dir}/run", "--steps=4", "--config.sample.solver=ddpm()"),
        "draws noise of its own",
    ),
]

AUDIT = [
    (("--workdir={dir}/nowhere",), "nowhere"),
    ((TINY, "--workdir={dir}/run"), "one of them"),
    ((), "give --config=configs/NAME.py, --workdir"),
    ((TINY, DIFFUSERS), "one of them"),
    (("--diffusers=",), "--diffusers= is empty"),
    (("--diffusers=s3://bucket/a.json",), "--diffusers=s3://bucket/a.json is an address"),
    ((TINY, "--out=gs://bucket/audit"), "--out=gs://bucket/audit is an address"),
    (("--diffusers={dir}/nowhere.json",), "nowhere.json"),
    (("--diffusers={dir}/empty",), "is a folder; give the file"),
    (("--diffusers={dir}/notes.txt",), "is not JSON"),
    (("--diffusers={dir}/net.pkl",), "is not JSON"),
    (("--diffusers={dir}/deep.json",), "nested too deep"),
    (("--diffusers={dir}/list.json",), "list.json"),
    (("--diffusers={dir}/null.json",), "null.json"),
    (("--diffusers={dir}/no_class.json",), "_class_name"),
    (("--diffusers={dir}/nan.json",), "beta_start.*nan"),
    (("--diffusers={dir}/infinity.json",), "beta_end.*inf"),
    (("--diffusers={dir}/many_steps.json",), "num_train_timesteps|levels"),
    ((DIFFUSERS, "--steps=0"), "steps.*0"),
    ((DIFFUSERS, "--steps=-5"), "steps.*-5"),
    ((DIFFUSERS, f"--steps={10**12}"), "steps"),
    ((DIFFUSERS, "--steps=2.5"), "steps.*2.5"),
    ((DIFFUSERS, "--steps=2000"), "2000"),
    ((DIFFUSERS, "--guidance=cgf(2)"), r"--guidance: unknown guidance.*Did you mean 'cfg'"),
    ((DIFFUSERS, "--guidance="), "--guidance: cannot read the guidance"),
    ((DIFFUSERS, "--guidance=cfg(True)"), "w of cfg must be a finite number, got True"),
    ((DIFFUSERS, "--guidance=cfg(1e999)"), "w of cfg must be a finite number, got inf"),
    ((DIFFUSERS, f"--guidance={'(' * 3000}"), "nested 3000 deep"),
    ((DIFFUSERS, "--pixels=0"), "pixels.*0"),
    ((DIFFUSERS, f"--pixels={10**12}"), "pixels"),
    ((DIFFUSERS, "--out="), "--out='' is no path"),
    ((DIFFUSERS, "--out={dir}/notes.txt"), "is a file; give a folder"),
    ((DIFFUSERS, "--out={dir}/notes.txt/below"), "notes.txt is no folder"),
    ((DIFFUSERS, "--write_diffusers="), "--write_diffusers='' is no path"),
    ((DIFFUSERS, "--write_diffusers={dir}/empty"), "is a folder; give a file"),
    ((DIFFUSERS, "--write_diffusers={dir}/no/s.json"), "there is no folder .*/no"),
    ((DIFFUSERS, "--config.seed=1"), "--config.seed changes a config, but there is no --config"),
    ((TINY, "--steps=20"), "--steps is for --diffusers; use --config.sample.steps"),
    ((TINY, "--guidance=cfg(2)"), "--guidance is for --diffusers"),
    ((TINY, "--config.schedule=linear(True)"), "clip_min of linear must be a finite number"),
    ((TINY, "--config.train.steps=0"), "config.train.steps=0: expected"),
    ((TINY, "--write_diffusers={dir}/no/s.json"), "there is no folder .*/no"),
    (("--config={dir}/nowhere.py",), "there is no file"),
]
CONVERT = [
    ((), "--edm is missing"),
    (("--edm=", "--workdir=o"), "--edm= is empty"),
    (("--edm=https://host/net.pkl", "--workdir=o"), "--edm=https://host/net.pkl is an address"),
    (("--edm={dir}/net.pkl",), "--workdir is missing"),
    (("--edm={dir}/net.pkl", "--workdir="), "--workdir= is empty"),
    (("--edm={dir}/nowhere.pkl", "--workdir=o"), "there is no such file"),
    (("--edm={dir}/empty", "--workdir=o"), "is a folder; give the .pkl file"),
    (("--edm={dir}/notes.txt", "--workdir=o"), "notes.txt"),
    (("--edm={dir}/samples.npz", "--workdir=o"), "samples.npz"),
    (("--edm={dir}/empty.npz", "--workdir=o"), "empty.npz"),
    (("--edm={dir}/net.pkl", "--workdir=o"), "net.pkl"),
    (("--edm={dir}/net.pkl", "--workdir={dir}/run"), "is not empty"),
    (("--edm={dir}/net.pkl", "--workdir={dir}/notes.txt"), "is a file"),
    (("--edm={dir}/net.pkl", "--workdir=o", "--steps=0"), "steps.*0"),
    (("--edm={dir}/net.pkl", "--workdir=o", "--steps=many"), "steps.*many"),
    (("--edm={dir}/net.pkl", "--workdir=o", "--latents=maybe"), "latents.*maybe"),
]
SWEEP = [
    ((), "--workdir is missing"),
    (("--workdir={dir}/run",), "--out is missing"),
    (("--workdir={dir}/empty", "--out=o"), "it has no config.json"),
    (("--workdir={dir}/untrained", "--out=o", "--metrics=contrast"), "has no checkpoints yet"),
    (("--workdir={dir}/run", "--out={dir}/notes.txt/s"), "notes.txt is no folder"),
    (("--workdir={dir}/run", "--out={dir}/bad_images", "--metrics=contrast"), "holds no sweep"),
    (("--workdir={dir}/run", "--out=o", "--steps=5,many"), "'many' is no whole number"),
    (
        ("--workdir={dir}/run", "--out=o", "--steps=0"),
        "1 of 1 samplers cannot work.*sample.steps=0",
    ),
    (("--workdir={dir}/run", "--out=o", "--solver=eulr()"), "Did you mean 'euler'"),
    (("--workdir={dir}/run", "--out=o", "--metrics=contrst"), "Did you mean 'contrast'"),
    (("--workdir={dir}/run", "--out=o", "--num_images=1"), "num_images.*1"),
    (("--workdir={dir}/run", "--out=o", "--step=7", "--metrics=contrast"), "step.* 7"),
    (("--workdir={dir}/run", "--out=o", "--reference=digit"), "did you mean 'digits'"),
]
GRID_FILE = "--sweep={root}/configs/sweeps/input_scale_grid.py:tiny"
GRID = [
    ((), "--workdir is missing"),
    (("--workdir=o",), "--sweep is missing"),
    (("--workdir=", GRID_FILE), "--workdir= is empty"),
    (("--workdir={dir}/notes.txt", GRID_FILE), "is a file"),
    (("--workdir={dir}/notes.txt/o", GRID_FILE), "notes.txt is no folder"),
    (("--workdir={dir}/run", GRID_FILE), "is not empty"),
    (("--workdir=gs://bucket/o", GRID_FILE), "is an address"),
    (("--workdir=o", "--sweep="), "--sweep= names no file"),
    (("--workdir=o", "--sweep={root}/configs/digits.py"), "has no function sweep"),
    (
        ("--workdir=o", "--sweep={root}/configs/sweeps/input_scale.py"),
        "Did you mean .*input_scale_grid.py",
    ),
    (("--workdir=o", f"{GRID_FILE[:-4]}tny"), "unknown variant 'tny' of this sweep: use :tiny"),
    (("--workdir=o", GRID_FILE, "--config.train.steps=0"), "config.train.steps=0: expected"),
    (("--workdir=o", GRID_FILE, "--config.train.stops=9"), "Did you mean 'steps'"),
    (("--workdir=o", GRID_FILE, "--config.process=ve()"), "every cell of .* sets process"),
    (("--workdir=o", GRID_FILE, "--config.network.patch_size=3"), "4 of 4 cells cannot work"),
    (("--workdir=o", GRID_FILE, "--config.data.name=digit"), "did you mean 'digits'"),
    (("--workdir=o", GRID_FILE, "--config.eval.metrics=contrst"), "Did you mean 'contrast'"),
    (("--workdir=o", GRID_FILE, "--config.eval.metrics=swd"), "swd needs sides of 7 pixels"),
    (("--workdir=o", GRID_FILE, "--config.eval.reference={dir}/nowhere"), "does not exist"),
    (("--workdir=o", GRID_FILE, "--engine=slrum"), "slrum"),
    (("--workdir=o", GRID_FILE, "--stack=both"), "both"),
    (("--workdir=o", GRID_FILE, "--engine=local", "--processes=0"), "processes.*0"),
    (("--workdir={dir}/run", "--cells=x"), "is no sweep"),
    (("report",), "--workdir is missing"),
    (("report", "{dir}/run"), "is no sweep"),
    (("status", "{dir}/nowhere"), "is no sweep"),
    (("reprot", "{dir}/run"), "unknown command reprot. Did you mean 'report'"),
    (("report", "{dir}/run", "more"), "unexpected argument 'more'"),
]
PREPARE = [
    ((), "--dataset"),
    (("--dataset=",), "--dataset= is empty"),
    (("--dataset",), "--dataset"),
    (("--dataset=cifra10",), "did you mean 'cifar10'"),
    (("--dataset=../x",), "unknown data set '../x'"),
    (("--dataset=digits", "--data_dir="), "--data_dir= is empty"),
    (("--dataset=digits", "--data_dir={dir}/notes.txt"), "notes.txt is a file; give a folder"),
    (("--dataset=digits", "--manual_dir={dir}/notes.txt"), "notes.txt is a file; give a folder"),
    (("--dataset=digits", "--datadir=x"), "Unknown command line flag 'datadir'"),
    (("digits",), "unexpected argument 'digits': options are written --name=value"),
]

# noise_sched.sample is the core's function.
sample = importlib.import_module("noise_sched.sample")
COMMANDS = {
    "sample": (sample, SAMPLE),
    "reconstruct": (reconstruct, RECONSTRUCT),
    "evaluate": (evaluate, EVALUATE),
    "sampler_sweep": (sampler_sweep, SWEEP),
    "sweep": (sweep, GRID),
    "audit": (audit, AUDIT),
    "levels": (levels, LEVELS),
    "fit_steps": (fit_steps, FIT_STEPS),
    "convert": (convert, CONVERT),
    "prepare": (prepare, PREPARE),
}

# ---- the files.


def _npz(path, **arrays):
    np.savez(path, **arrays)


def _raw_npz(path, header: dict, data: bytes, compression=zipfile.ZIP_STORED):
    """An .npz whose only array has a header of our making."""
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("images.npy", member.getvalue() + data)


def _png(folder: pathlib.Path, name="a.png", size=(8, 8), mode="L"):
    folder.mkdir(exist_ok=True)
    Image.new(mode, size).save(folder / name)


def _claiming_png(path: pathlib.Path, side: int):
    """The head of a grey PNG of side x side pixels, and no pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zipfile.crc32(body))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")
    )


def _labels(folder: pathlib.Path, text: str | bytes):
    _png(folder)
    text = text if isinstance(text, bytes) else text.encode()
    (folder / "labels.json").write_bytes(text)


def _json_workdir(folder: pathlib.Path, text: str | bytes):
    folder.mkdir()
    text = text if isinstance(text, bytes) else text.encode()
    (folder / "config.json").write_bytes(text)


def _scheduler(path: pathlib.Path, text: str = "", **fields):
    made = {"_class_name": "DDIMScheduler", "clip_sample": False, "beta_start": 0.0001} | fields
    path.write_text(text or json.dumps(made))


def _image_files(root: pathlib.Path):
    eight, labels = np.zeros((3, 8, 8, 1), np.uint8), np.arange(3)
    _npz(root / "samples.npz", images=eight, labels=labels)
    (root / "cut.npz").write_bytes((root / "samples.npz").read_bytes()[:400])
    (root / "empty.npz").write_bytes(b"")
    (root / "pickle.npz").write_bytes(pickle.dumps({"images": [1, 2]}))
    np.save(root / "array.npy", eight)
    boxed = np.empty(3, object)
    _npz(root / "objects.npz", images=boxed)
    _npz(root / "objects_labels.npz", images=eight, labels=boxed)
    huge = {"descr": "|u1", "fortran_order": False, "shape": (1_000_000, 2048, 4096, 1)}
    _raw_npz(root / "claims_8tb.npz", huge, b"\0" * 64)
    _raw_npz(root / "negative.npz", huge | {"shape": (-1, 8, 8, 1)}, b"\0" * 64)
    _raw_npz(
        root / "bomb.npz", huge | {"shape": (10**5, 8, 8, 1)}, b"\0" * 64, zipfile.ZIP_DEFLATED
    )
    _npz(root / "no_images.npz", pixels=eight)
    _npz(root / "int32.npz", images=eight.astype(np.int32), labels=labels)
    _npz(root / "text.npz", images=np.full((3, 8, 8, 1), "x"), labels=labels)
    _npz(root / "complex.npz", images=eight * 1j, labels=labels)
    _npz(root / "flat.npz", images=np.zeros((3, 64), np.uint8), labels=labels)
    _npz(root / "none.npz", images=eight[:0], labels=labels[:0])
    _npz(root / "nan.npz", images=np.full((3, 8, 8, 1), np.nan), labels=labels)
    _npz(root / "range.npz", images=np.full((3, 8, 8, 1), 255.0), labels=labels)
    _npz(root / "few_labels.npz", images=eight, labels=labels[:2])
    _npz(root / "float_labels.npz", images=eight, labels=labels * 0.5)
    _npz(root / "high_labels.npz", images=eight, labels=labels + 9)
    _npz(root / "no_labels.npz", images=eight)
    _npz(root / "large.npz", images=np.zeros((3, 32, 32, 3), np.uint8), labels=labels)
    for name in ("bad_images", "bomb", "empty"):
        (root / name).mkdir()
    (root / "bad_images" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    _claiming_png(root / "bomb" / "a.png", 14_000)
    _png(root / "sizes"), _png(root / "sizes", "b.png", (9, 8))
    _png(root / "rgba", mode="RGBA")
    _png(root / "label_in_name", f"a_label{10**30}.png")
    _labels(root / "labels_deep", "[" * 100_000)
    _labels(root / "labels_huge", f"[{10**30}]")
    _labels(root / "labels_digits", f"[{'9' * 5000}]")
    _labels(root / "labels_bytes", b"\xff\xfe\x00")
    _labels(root / "labels_text", '["3"]')
    _labels(root / "labels_bool", "[true]")
    _labels(root / "labels_null", "null")
    _labels(root / "labels_few", "[1, 2]")
    _labels(root / "labels_none", "{}")


def _workdirs(root: pathlib.Path):
    """A run of the tiny config that has one checkpoint, of zeros, and such as are none."""
    config = digits.get_config("tiny")
    built = experiment.from_config(config)
    params = jax.eval_shape(built.init_params, jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params)
    for name in ("run", "untrained"):
        workdir.claim(root / name, config)
    with Checkpoints(workdir.checkpoints(root / "run")) as checkpoints:
        checkpoints.save_ema(6, params)
    _json_workdir(root / "no_json", "{")
    _json_workdir(root / "list_json", "[1, 2]")
    _json_workdir(root / "deep_json", "[" * 100_000)
    _json_workdir(root / "bytes_json", b"\xff\xfe\x00")
    _json_workdir(root / "old_keys", '{"train": {"stps": 5}, "augment": {}}')
    config.sigma_data = -1.0
    workdir.claim(root / "wrong_value", config)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("wrong")
    for name in ("notes.txt", "notes.json"):
        (root / name).write_text("mine")
    (root / "folder.json").mkdir()
    (root / "net.pkl").write_bytes(pickle.dumps({"ema": types.SimpleNamespace}))
    _image_files(root)
    _workdirs(root)
    _scheduler(root / "scheduler.json")
    _scheduler(root / "deep.json", "[" * 100_000)
    _scheduler(root / "list.json", "[1]")
    _scheduler(root / "null.json", "null")
    _scheduler(root / "no_class.json", "{}")
    _scheduler(root / "nan.json", beta_start=float("nan"))
    _scheduler(root / "infinity.json", beta_end=float("inf"))
    _scheduler(root / "many_steps.json", num_train_timesteps=10**12)
    return root


# ---- running a row.

_spent = {"rows": 0, "seconds": 0.0}


def _listing(root: pathlib.Path) -> dict:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in root.rglob("*")}


@pytest.fixture
def refused(place, capsys, monkeypatch, tmp_path_factory):
    """Runs a command in {dir} and returns its one message."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.getbasetemp() / "tfds"))

    def run(module, argv) -> str:
        argv = [arg.replace("{dir}", str(place)).replace("{root}", str(ROOT)) for arg in argv]
        before, start = _listing(place), time.process_time()
        code = in_process.run(module, argv)
        _spent["rows"] += 1
        _spent["seconds"] += time.process_time() - start
        out, err = capsys.readouterr()
        assert code == 2, (code, out, err)
        assert err.startswith("error: ") and err.count("error: ") == 1 and not out, (out, err)
        assert "Traceback" not in err and len(err.splitlines()) <= 4 and len(err) < 2000, err
        assert _listing(place) == before
        return err

    return run


def _says(err: str, words: str) -> None:
    assert re.search(words, err, re.DOTALL), f"{words!r} is not in: {err}"


def _ids(rows):
    return [
        re.sub(r"[^\w=.,()-]+", "_", " ".join(row[0]) if row[0] else "nothing")[:50] for row in rows
    ]


@pytest.mark.parametrize(("key", "value"), given(NUMBERS | TUPLES | SWITCHES))
def test_a_value_that_is_no_value_of_its_key(refused, key, value):
    err = refused(train, [TINY, "--workdir=new", f"--config.{key}={value}"])
    _says(err, rf"config\.{key}\b")
    _says(err, "xpected (a |True or False)")


@pytest.mark.parametrize(("override", "words"), OVERRIDES, ids=[row[0][:50] for row in OVERRIDES])
def test_an_override_that_cannot_work(refused, override, words):
    _says(refused(train, [TINY, "--workdir=new", f"--config.{override}"]), words)


@pytest.mark.parametrize(("argv", "words"), TRAIN, ids=_ids(TRAIN))
def test_train(refused, argv, words):
    _says(refused(train, ["--workdir=new", *argv]), words)


def test_train_needs_a_workdir(refused):
    _says(refused(train, [TINY]), "--workdir is missing; give it, for example")


@pytest.mark.parametrize("text", FILES, ids=[text[:50] for text in FILES])
def test_a_config_file(refused, place, text):
    changes = text.startswith(("c.", "del c."))
    body = (
        f"def get_config():\n    c = common.base()\n    {text}\n    return c" if changes else text
    )
    head = "import sys\nfrom ml_collections import ConfigDict\nfrom configs import common\n"
    (place / "config.py").write_text(head + body)
    _says(refused(train, ["--config={dir}/config.py", "--workdir=new"]), FILES[text])


@pytest.mark.parametrize(("name", "fields", "words"), UNETS)
def test_a_field_of_a_u_net(refused, place, name, fields, words):
    head = "from ml_collections import ConfigDict\nfrom configs import digits\n"
    body = "def get_config():\n    c = digits.get_config('tiny')\n    c.loss.self_conditioning = 0.0\n    "
    (place / "config.py").write_text(
        f"{head}{body}{UNET.format(name=name, fields=fields)}\n    return c"
    )
    _says(refused(train, ["--config={dir}/config.py", "--workdir=new"]), words)


def test_a_config_file_that_is_no_text(refused, place):
    for content in (b"\xff\xfe\0\0", b"x = 1\0", b"\x80\x04.", b"# -*- coding: nonsuch -*-"):
        (place / "config.py").write_bytes(content)
        _says(refused(train, ["--config={dir}/config.py", "--workdir=new"]), "cannot be loaded: ")


@pytest.mark.parametrize(
    ("command", "argv", "words"),
    [(name, *row) for name, (_, rows) in COMMANDS.items() for row in rows],
    ids=[f"{name}-{i}" for name, (_, rows) in COMMANDS.items() for i in _ids(rows)],
)
def test_the_other_commands(refused, command, argv, words):
    _says(refused(COMMANDS[command][0], argv), words)


# ---- the table of ranges.


def test_every_key_of_the_base_config_has_its_range():
    """A new key cannot be forgotten, nor an old one stay."""
    found = {key for key, _ in ranges.leaves(common.base()) if not key.startswith("network.")}
    assert found == set(ranges.KEYS)


def test_every_field_of_every_network_has_its_range():
    found = {
        field.name
        for name in networks.__all__
        for field in dataclasses.fields(getattr(networks, name))
    }
    assert found - {"parent", "image_size", "channels"} == set(ranges.NETWORK)


def test_every_config_of_the_repository_is_in_range():
    for path in sorted((ROOT / "configs").glob("*.py")):
        module = importlib.import_module(f"configs.{path.stem}")
        if hasattr(module, "get_config"):
            if path.stem != "own_images":  # which needs a folder
                ranges.check(module.get_config())
            ranges.check(module.get_config("tiny"))


def test_a_wrong_run_can_be_corrected_in_the_same_workdir(refused, place):
    """The claim comes after every check."""
    for key, value in (("train.log_every", 0), ("train.keep", 0), ("train.microbatches", 0)):
        refused(train, [TINY, "--workdir=new", f"--config.{key}={value}"])
    assert not (place / "new").exists()


def test_all_of_it_is_little_work():
    """Under a second each, in all far less; pytest-xdist may have given other processes some of the rows."""
    assert _spent["rows"] == 0 or _spent["seconds"] / _spent["rows"] < 0.2
