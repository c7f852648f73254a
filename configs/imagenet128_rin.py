"""ImageNet 128x128, class-conditional, single-stage pixel RIN of 215 M parameters.

    python -m noise_sched.train --config=configs/imagenet128_rin.py --workdir=DIR

Expected: FID 3.50, IS 120.4 (Chen 2023, arXiv 2301.10972, Table 5). Not reproduced here: it takes
a TPU pod. gamma(t) = 1 - t, input scale b = 0.6 (Table 4), per-example std.
Batch 1024 and LAMB at 2e-3 are the released ImageNet-64 recipe's; they are unpublished at this size.

Matrix products are in bfloat16, which halves what chips tell each other; parameters, norms, softmax and the
tokens between layers stay float32 (our choice; docs/results/preflight.md).
"""

from configs import common


def get_config(variant=None):
    """The config; `variant` is "tiny" or nothing."""
    return common.imagenet_rin(variant, image_size=128, input_scale=0.6, steps=250_000)
