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
"$PYTHON" -m noise_sched.evaluate --images="$SAMPLES/samples.npz" --reference=digits \
  --metrics=class_agreement

cat <<END

Your model drew these digits: $ROOT/$SAMPLES/grid.png

Three things to try next, from $ROOT (\`source .venv/bin/activate\` first):

  1. Draw again in fewer steps, and look at the difference:
       python -m noise_sched.sample --workdir=$WORKDIR --num_images=100 \\
         --out=$WORKDIR/samples_10_steps --config.sample.steps=10
  2. Train with another noise schedule, and compare the two agreements:
       python -m noise_sched.train --config=configs/digits.py --workdir=runs/digits_sigmoid \\
         '--config.schedule=sigmoid(-3, 3, tau=0.9)'
  3. Judge the contrast and the variety of the digits, too:
       python -m noise_sched.evaluate --images=$SAMPLES/samples.npz --reference=digits \\
         --metrics=class_agreement,contrast,nearest,kernel_distance
END
