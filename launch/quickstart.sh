#!/usr/bin/env bash
# Trains a small diffusion model on handwritten digits, draws 1,000 new ones and judges them.
#
#     bash launch/quickstart.sh
#
# A few minutes on two CPU cores, installation included. Stopped half-way, run it again: it goes on
# from the last checkpoint. Whatever follows the command is passed on to the training.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

WORKDIR="runs/digits"
SAMPLES="$WORKDIR/samples"

prepare_env

"$PYTHON" -m noise_sched.train --config=configs/digits.py --workdir="$WORKDIR" "$@"
"$PYTHON" -m noise_sched.sample --workdir="$WORKDIR" --num_images=1000 --out="$SAMPLES"
"$PYTHON" -m noise_sched.evaluate --images="$SAMPLES" --reference=digits --out="$WORKDIR/evaluation" \
  --overwrite

cat <<END

Your model drew these digits: $ROOT/$SAMPLES/grid.png
Each beside its nearest real digit, and histograms: $ROOT/$WORKDIR/evaluation/metrics.png

In the table above, "images" are your model's and "real" is one half of the real digits against the other: what a
perfect model would score. README.md says what each line means.

Three things to try next, from $ROOT (\`source .venv/bin/activate\` first):

  1. Draw again in fewer steps, and look at the difference:
       python -m noise_sched.sample --workdir=$WORKDIR --num_images=100 \\
         --out=$WORKDIR/samples_10_steps --config.sample.steps=10
  2. Train with another noise schedule, and compare the two tables:
       python -m noise_sched.train --config=configs/digits.py --workdir=runs/digits_sigmoid \\
         '--config.schedule=sigmoid(-3, 3, tau=0.9)'
  3. Draw with several samplers, and see quality against the number of network passes:
       python -m noise_sched.sampler_sweep --workdir=$WORKDIR --out=$WORKDIR/sweep \\
         --steps=5,10,20 --solver='ddim()' --solver='heun()'
END
