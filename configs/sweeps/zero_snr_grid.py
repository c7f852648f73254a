"""Training schedule x prediction x spacing of the steps: what zero terminal SNR needs (Lin et al. 2024).

    python -m noise_sched.sweep --sweep=configs/sweeps/zero_snr_grid.py:digits --workdir=runs/zero_snr

arXiv 2305.08891. The model of each schedule and prediction is trained once and sampled with each spacing.
eps-prediction from zero SNR is left out: it is undefined there, and refused. Behind the colon: nothing or
brightness for images of every brightness (32 px), digits, or tiny. Expected: a model whose schedule ends at
zero SNR, sampled from its last step (trailing), gets the brightness right; docs/results/brightness.md.
"""

from configs import zero_terminal_snr
from configs.sweeps import small
from configs.sweeps.cells import choices, named, product, seeds

ROWS, COLUMNS = ("training", "prediction"), ("sample.grid",)
FIGURES = ("brightness/distance", "contrast/distance")

_FLAWED = "scaled_linear()"
_SCHEDULES = {"flawed": _FLAWED, "zero SNR": f"zero_terminal({_FLAWED})"}
_GRIDS = ("leading()", "linspace()", "trailing()")


def get_config(variant=None):
    """The base config; `variant` as above."""
    if (variant or "") not in ("", "brightness", "digits", "tiny"):
        raise ValueError(f"unknown variant {variant!r}: use :brightness, :digits, :tiny, or none.")
    config = zero_terminal_snr.get_config()
    if variant in ("digits", "tiny"):
        config.data.update(name="digits", image_size=8)
        config.network.update(num_classes=10, patch_size=2)
        config.train.update(steps=800, log_every=50, checkpoint_every=400, keep=1)
    config.eval.update(num_images=1000)
    return small.tiny(config) if variant == "tiny" else config


def sweep(variant=None):
    """The cells; three training seeds, one at `:tiny`."""
    models = []
    for name, schedule in _SCHEDULES.items():
        for prediction in ("eps", "v"):
            if (name, prediction) == ("zero SNR", "eps"):
                continue
            chosen = {"schedule": f"discrete({schedule})", "sample.schedule": schedule}
            output = {"parametrization": f"{prediction}()", "loss.space": f"{prediction}()"}
            models.append(named("training", name, chosen) | named("prediction", prediction, output))
    return product(models, choices("sample.grid", _GRIDS), seeds(1 if variant == "tiny" else 3))
