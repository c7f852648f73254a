"""AFHQv2 at 64x64 by EDM (Karras et al. 2022, arXiv 2206.00364): any row of its Table 2, DDPM++ or NCSN++.

    python -m noise_sched.train --config=configs/afhqv2_64_edm.py --workdir=DIR
    python -m noise_sched.train --config=configs/afhqv2_64_edm.py:F,ve --workdir=DIR

Behind the colon, separated by commas: a row A to F (see edm_rows.py; default F), vp (DDPM++, default) or
ve (NCSN++), tiny.

The data: AFHQv2 (github.com/clovaai/stargan-v2), its training images of 512x512 (15,220 in EDM) in
a folder; its classes are not used. A copy of them reduced once to 64x64 by Lanczos, as EDM did, reads much
faster:

    mogrify -path afhqv2_64 -filter Lanczos -resize 64x64 -format png afhq_v2/train/*/*.png

    --config.data.name=folder:afhqv2_64

Expected: these FIDs (Table 2; 50,000 images, 40 steps of Heun, 79 network passes; the best of three sets
of seeds, of the best snapshot). Not reproduced here: 200 million images took 8 V100 four days.

          A      B      C      D      E      F
    vp    2.58   2.43   2.54   2.79   2.29   1.96
    ve    18.52  23.12  15.04  3.81   2.28   2.16

Parameters, row F: 61,805,571 (vp), 62,761,091 (ve).
"""

from configs import edm_rows


def get_config(variant=None):
    """The config; `variant` as above."""
    return edm_rows.variant_of("folder:afhqv2_64", edm_rows.AFHQV2_64, variant)
