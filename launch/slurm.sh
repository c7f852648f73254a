#!/usr/bin/env bash
# One run on the nodes of a Slurm cluster, which goes on by itself after a time limit, preemption or failure.
#
#     bash launch/slurm.sh --nodes=4 --gpus_per_node=8 -- --config=configs/imagenet64_rin.py --workdir=/shared/run
#
# --nodes=1           nodes
# --tasks_per_node=1  processes on each, which share its devices
# --gpus_per_node=0   GPUs of each; 0 for CPUs
# --cpus_per_task=    cores of each process; Slurm's default without
# --time=24:00:00     limit of one start; two minutes before it ends all is saved and the job is queued again
# --partition=        Slurm's default without
# --name=noise_sched  of the job
# --log=slurm-%j.log  output, added to by every start
# --command=train     train, sample or evaluate
# --dry_run           prints the batch script and submits nothing
#
# Behind -- stand the command's own flags. The workdir and this checkout have to be on a disk that all nodes see.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
source "$ROOT/launch/options.sh"
source "$ROOT/launch/xla_flags.sh"

OPTIONS="nodes tasks_per_node gpus_per_node cpus_per_task time partition name log command"
nodes=1
tasks_per_node=1
gpus_per_node=0
cpus_per_task=""
time="24:00:00"
partition=""
name=noise_sched
log="slurm-%j.log"
command=train
read_options "$@"
need_number nodes
need_number tasks_per_node
need_rest
[ -n "$DRY_RUN" ] || command -v sbatch >/dev/null 2>&1 ||
  fail "there is no sbatch on this machine. Start this where jobs can be submitted; to try Slurm out on one" \
    "machine see launch/slurm_one_node.sh, to do without it launch/local.sh"

batch_script() {
  local platform=cpu each
  [ "$gpus_per_node" = 0 ] || platform=gpu
  printf '%s\n' '#!/usr/bin/env bash' \
    "#SBATCH --job-name=$name" "#SBATCH --output=$log" '#SBATCH --open-mode=append' \
    "#SBATCH --nodes=$nodes" "#SBATCH --ntasks-per-node=$tasks_per_node" "#SBATCH --time=$time" \
    '#SBATCH --requeue' '#SBATCH --signal=TERM@120'
  [ "$platform" = cpu ] || printf '#SBATCH --gpus-per-node=%s\n' "$gpus_per_node"
  [ -z "$partition" ] || printf '#SBATCH --partition=%s\n' "$partition"
  [ -z "$cpus_per_task" ] || printf '#SBATCH --cpus-per-task=%s\n' "$cpus_per_task"
  printf 'cd %s\n' "$(quoted "$ROOT")"
  xla_environment "$platform" | while read -r each; do printf 'export %s\n' "$(quoted "$each")"; done
  printf 'export JAX_COMPILATION_CACHE_DIR=%s\n' "$(quoted "$JAX_COMPILATION_CACHE_DIR")"
  [ "$platform" = gpu ] || printf 'export JAX_PLATFORMS=cpu\n'
  printf '%s\n' 'code=0' "srun --kill-on-bad-exit=0 $(quoted "$PYTHON" -m "noise_sched.$command" \
    --distributed "${REST[@]}")|| code=\$?"
  # 75: stopped by a signal, all saved. Others but a mistake (2) are tried a few times.
  printf '%s\n' "if [ \"\$code\" -eq 75 ] || { [ \"\$code\" -ne 0 ] && [ \"\$code\" -ne 2 ] && \
[ \"\${SLURM_RESTART_COUNT:-0}\" -lt 3 ]; }; then" '  scontrol requeue "$SLURM_JOB_ID"' 'fi' 'exit "$code"'
}

if [ -n "$DRY_RUN" ]; then
  batch_script
else
  prepare_env
  batch_script | sbatch
fi
