"""CIFAR-10 by EDM (Karras et al. 2022, arXiv 2206.00364): any row of its Table 2, DDPM++ or NCSN++.

    python -m noise_sched.train --config=configs/cifar10_edm.py --workdir=DIR
    python -m noise_sched.train --config=configs/cifar10_edm.py:F,ve,cond --workdir=DIR

Behind the colon, separated by commas: a row A to F (see edm_rows.py; default F), vp (DDPM++, default) or
ve (NCSN++), uncond (default) or cond, tiny.

Expected: these FIDs (Table 2; 50,000 images, 18 steps of Heun, 35 network passes; the best of three sets
of seeds, of the best snapshot). Not reproduced here: 200 million images took 8 V100 two days.

               A      B      C      D      E      F
    uncond vp  3.01   2.51   2.31   2.29   2.05   1.97
    uncond ve  3.77   2.94   2.83   3.10   1.99   1.98
    cond   vp  2.48   2.18   2.08   2.09   1.88   1.79
    cond   ve  3.11   2.48   2.52   2.64   1.86   1.79

Parameters, row F: 55,733,891 (vp, uncond), 55,735,299 (vp, cond), 56,397,827 (ve, uncond), 56,400,643 (ve,
cond); rows A and B, uncond: 61,804,419 (vp), 62,758,787 (ve). Row A's unconditional FIDs are those of the
networks that Song et al. (arXiv 2011.13456) published.
"""

from configs import edm_rows


def get_config(variant=None):
    """The config; `variant` as above."""
    return edm_rows.variant_of("cifar10", edm_rows.CIFAR10, variant, classes=10)
