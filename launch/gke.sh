#!/usr/bin/env bash
# One run on TPU slices of a GKE cluster: fills in launch/gke_jobset.yaml and hands it to kubectl.
#
#     bash launch/gke.sh --name=rin64 --image=REGION-docker.pkg.dev/PROJECT/REPO/noise_sched:TAG \
#         --accelerator=tpu-v5-lite-podslice --topology=16x16 --hosts=64 --chips=4 -- \
#         --config=configs/imagenet64_rin.py --workdir=gs://bucket/rin64
#
# --name=         of the JobSet
# --image=        with this checkout installed in /noise_sched
# --accelerator=  GKE's name of the TPU: tpu-v4-podslice, tpu-v5-lite-podslice, tpu-v5p-slice, tpu-v6e-slice
# --topology=     of a slice, such as 16x16
# --hosts=        of a slice: chips of the topology / chips of a host
# --chips=4       of a host
# --slices=1      slices
# --queue=default Kueue's queue
# --restarts=100  how often JobSet starts all hosts again when one ends without being done
# --command=train train, sample or evaluate
# --dry_run       prints the manifest and applies nothing
#
# Behind -- stand the command's own flags; the workdir has to be in a bucket. The cluster needs JobSet and Kueue.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
source "$ROOT/launch/options.sh"
source "$ROOT/launch/xla_flags.sh"

OPTIONS="name image accelerator topology hosts chips slices queue restarts command"
name=""
image=""
accelerator=""
topology=""
hosts=""
chips=4
slices=1
queue=default
restarts=100
command=train
read_options "$@"
need name rin64
need image us-docker.pkg.dev/project/repository/noise_sched:latest
need accelerator tpu-v5-lite-podslice
need topology 16x16
need hosts 64
need_number hosts
need_number chips
need_number slices
need_rest
count=1
for each in ${topology//x/ }; do count=$((count * each)); done
[ "$count" -eq $((hosts * chips)) ] ||
  fail "--topology=$topology has $count chips, not --hosts=$hosts x --chips=$chips"
[ -n "$DRY_RUN" ] || command -v kubectl >/dev/null 2>&1 || fail "there is no kubectl on this machine"

manifest() {
  local text each args="" tpu_flags
  text="$(cat "$ROOT/launch/gke_jobset.yaml")"
  # In JSON, which YAML reads, a string needs no more than its quotes and backslashes marked.
  for each in "${REST[@]}"; do
    each="${each//\\/\\\\}"
    args+="                    - \"${each//\"/\\\"}\""$'\n'
  done
  args="${args%$'\n'}"
  tpu_flags="$(xla_environment tpu)"
  tpu_flags="${tpu_flags#*=}"
  for each in name image accelerator topology hosts chips slices queue restarts command args tpu_flags; do
    text="${text//\$\{$each\}/${!each}}"
  done
  printf '%s\n' "$text"
}

if [ -n "$DRY_RUN" ]; then
  manifest
else
  manifest | kubectl apply -f -
fi
