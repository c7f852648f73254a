#!/usr/bin/env bash
# One run on a Cloud TPU pod slice: asks for the slice, sets up every worker, trains, and starts again after preemption.
#
#     bash launch/tpu_pod.sh --name=rin64 --zone=us-west4-a --accelerator=v5litepod-256 --spot=yes -- \
#         --config=configs/imagenet64_rin.py --workdir=gs://bucket/rin64
#
# --name=         of the slice and its request
# --zone=         where
# --accelerator=  such as v5litepod-256, v4-128, v5p-64, v6e-256; check the config with launch/preflight.py first
# --runtime=      of the TPU's software; by the accelerator's generation without
# --project=      gcloud's own without
# --spot=no       yes: cheaper, and may be taken away at any moment
# --command=train train, sample or evaluate
# --restarts=100  how often it is started again
# --keep=no       yes: leaves the slice there when the run is done; it goes on costing money
# --dry_run       prints the commands and runs none
#
# Behind -- stand the command's own flags; the workdir has to be in a bucket. This needs gcloud, and stays
# there as long as the run does: closed, it is given again, and follows the run that is there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
source "$ROOT/launch/options.sh"
source "$ROOT/launch/xla_flags.sh"

OPTIONS="name zone accelerator runtime project spot command restarts keep"
name=""
zone=""
accelerator=""
runtime=""
project=""
spot=no
command=train
restarts=100
keep=no
read_options "$@"
need name rin64
need zone us-west4-a
need accelerator v5litepod-256
need_rest
for each in "${REST[@]}"; do
  case "$each" in
    --workdir=gs://* | --out=gs://*) ;;
    --workdir=* | --out=*) fail "$each is no folder that all workers see: give one in a bucket, gs://..." ;;
  esac
done
[ -n "$DRY_RUN" ] || command -v gcloud >/dev/null 2>&1 ||
  fail "there is no gcloud on this machine: see https://cloud.google.com/sdk/docs/install"

if [ -z "$runtime" ]; then
  case "$accelerator" in
    v4-*) runtime=tpu-ubuntu2204-base ;;
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    *) fail "the runtime of $accelerator is not known here: give --runtime=" ;;
  esac
fi
where=("--zone=$zone" --quiet)
[ -z "$project" ] || where+=("--project=$project")
remote=noise_sched # the checkout's name in every worker's home

# What Cloud TPU says of the slice: ACTIVE, WAITING_FOR_RESOURCES, SUSPENDED, FAILED, ... or nothing.
state() {
  gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format='value(state.state)' 2>/dev/null || true
}

ask() {
  local flags=("--node-id=$name" "--accelerator-type=$accelerator" "--runtime-version=$runtime")
  [ "$spot" = no ] || flags+=(--spot)
  run_or_show gcloud compute tpus queued-resources create "$name" "${flags[@]}" "${where[@]}"
}

give_back() {
  run_or_show gcloud compute tpus queued-resources delete "$name" --force "${where[@]}"
}

everywhere() {
  run_or_show gcloud compute tpus tpu-vm ssh "$name" --worker=all "${where[@]}" "--command=$1"
}

# Waits until the slice is there; a request that has come to nothing is made anew.
get_slice() {
  local found
  if [ -n "$DRY_RUN" ]; then
    ask
    return
  fi
  while :; do
    found="$(state)"
    case "$found" in
      ACTIVE) return ;;
      '') ask ;;
      FAILED | SUSPENDED | SUSPENDING) give_back ;;
      *) printf '%s: %s\n' "$name" "$found" >&2 ;;
    esac
    sleep "${POLL_SECONDS:-30}"
  done
}

# Copies what is committed to every worker, and installs it there.
set_up() {
  local archive="/tmp/$remote-$name.tar.gz"
  run_or_show git -C "$ROOT" archive --format=tar.gz "--prefix=$remote/" "--output=$archive" HEAD
  run_or_show gcloud compute tpus tpu-vm scp "$archive" "$name:/tmp/$remote.tar.gz" --worker=all "${where[@]}"
  everywhere "tar -xzf /tmp/$remote.tar.gz && cd $remote && source launch/env.sh && prepare_env tpu && \
\"\$PYTHON\" -m pip install --quiet gcsfs"
}

# The run on all workers; ssh brings its output and its exit code.
train() {
  local each exports=""
  while read -r each; do exports+="export $(quoted "$each"); "; done < <(xla_environment tpu)
  everywhere "cd $remote && source launch/env.sh && $exports\"\$PYTHON\" -m noise_sched.$command --distributed \
$(quoted "${REST[@]}")"
}

for ((start = 0; start <= restarts; start++)); do
  get_slice
  set_up
  code=0
  train || code=$?
  if ! starts_again "$code"; then
    break
  fi
  printf 'the run ended with code %s; starting it again (%s of %s)\n' "$code" "$((start + 1))" "$restarts" >&2
done
[ "$keep" = yes ] || give_back
exit "$code"
