"""ImageNet 768x768, class-conditional, single-stage pixel RIN of 408 M parameters.

    python -m noise_sched.train --config=configs/imagenet768_rin.py --workdir=DIR

Expected: FID 5.60, IS 196.2 (Chen 2023, arXiv 2301.10972, Table 5). Not reproduced here: it takes
a TPU pod. gamma(t) = 1 - t, input scale b = 0.176 (our choice, (64/768)^0.7: unpublished), per-example std.
Batch 1024 and LAMB at 2e-3 are the released ImageNet-64 recipe's; they are unpublished at this size.

Matrix products are in bfloat16, which halves what chips tell each other; parameters, norms, softmax and the
tokens between layers stay float32 (our choice; docs/results/preflight.md). Layers are computed again in the
backward pass: without it a chip of 256 of v5e needs 16.5 GiB, more than it has.
"""

from configs import common


def get_config(variant=None):
    """The config; `variant` is "tiny" or nothing."""
    return common.imagenet_rin(
        variant, 768, 0.176, 1_000_000, num_layers=(8,) * 6, latent_slots=256, remat="layer"
    )
