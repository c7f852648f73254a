"""One trained model, many samplers: steps x solver x schedule x guidance.

    python -m noise_sched.sweep --sweep=configs/sweeps/sampler_grid.py:digits --workdir=runs/samplers

The model is configs/digits.py's, trained once (a shorter run at `:digits`, seconds at `:tiny`); the cells
differ in how it is sampled. For a model that is trained already see `python -m noise_sched.sampler_sweep`.
"""

from configs import digits
from configs.sweeps import small
from configs.sweeps.cells import choices, product

ROWS, COLUMNS = ("sample.solver",), ("sample.steps",)
FIGURES = ("class_fd/distance", "swd/distance")

_SOLVERS = ("ddim(eta=0.0)", "heun()", "dpmpp()")
_SCHEDULES = ("cosine()", "linear()")
_GUIDANCES = ("none()", "cfg(2.0)")


def get_config(variant=None):
    """The base config; `variant` is "digits", "tiny" or nothing."""
    if (variant or "") not in ("", "digits", "tiny"):
        raise ValueError(f"unknown variant {variant!r}: use :digits, :tiny, or none.")
    config = small.tiny(small.base("digits")) if variant == "tiny" else digits.get_config()
    if variant == "digits":
        config = small.base("digits")
    config.eval.num_images = min(config.eval.num_images, 1000)
    return config


def sweep(variant=None):
    """The cells."""
    if variant == "tiny":
        return product(choices("sample.solver", _SOLVERS[:2]), choices("sample.steps", (2, 4)))
    return product(
        choices("sample.solver", _SOLVERS),
        choices("sample.steps", (5, 10, 20, 40)),
        choices("sample.schedule", _SCHEDULES),
        choices("sample.guidance", _GUIDANCES),
    )
