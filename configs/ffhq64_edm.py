"""FFHQ at 64x64 by EDM (Karras et al. 2022, arXiv 2206.00364): any row of its Table 2, DDPM++ or NCSN++.

    python -m noise_sched.train --config=configs/ffhq64_edm.py --workdir=DIR
    python -m noise_sched.train --config=configs/ffhq64_edm.py:F,ve --workdir=DIR

Behind the colon, separated by commas: a row A to F (see edm_rows.py; default F), vp (DDPM++, default) or
ve (NCSN++), tiny.

The data: FFHQ (github.com/NVlabs/ffhq-dataset), its 70,000 images of 1024x1024 in a folder, or a copy of them
reduced once to 64x64 by Lanczos as EDM did, which reads much faster:

    mogrify -path ffhq64 -filter Lanczos -resize 64x64 -format png images1024x1024/*/*.png

    --config.data.name=folder:ffhq64

Expected: these FIDs (Table 2; 50,000 images, 40 steps of Heun, 79 network passes; the best of three sets
of seeds, of the best snapshot). Not reproduced here: 200 million images took 8 V100 four days.

          A      B      C      D      E      F
    vp    3.39   3.13   2.78   2.94   2.60   2.39
    ve    25.95  22.53  41.62  3.39   2.81   2.53

Parameters, row F: 61,805,571 (vp), 62,761,091 (ve).
"""

from configs import edm_rows


def get_config(variant=None):
    """The config; `variant` as above."""
    return edm_rows.variant_of("folder:ffhq64", edm_rows.FFHQ64, variant)
