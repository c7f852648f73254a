#!/usr/bin/env bash
# Several hosts of one run on this machine: processes that train as the hosts of a pod do, on CPUs.
#
#     bash launch/local.sh --processes=2 --devices=2 -- --config=configs/digits.py --workdir=runs/two_hosts
#
# --processes=2   hosts
# --devices=1     devices of each, simulated by the CPU
# --command=train what they run: train, sample or evaluate
# --restarts=3    how often a run that ends without being done is started again
# --dry_run       prints the commands and starts nothing
#
# Behind -- stand the command's own flags. On real accelerators one process has all of a machine's: there
# start `python -m noise_sched.train` alone.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
source "$ROOT/launch/options.sh"

OPTIONS="processes devices command restarts"
processes=2
devices=1
command=train
restarts=3
read_options "$@"
need_number processes
need_number devices
need_rest

free_port() {
  "$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])'
}

PIDS=()
STOPPING=""

# Passes a signal on, and lets the hosts save.
stop() {
  STOPPING=yes
  [ "${#PIDS[@]}" -eq 0 ] || kill -TERM "${PIDS[@]}" 2>/dev/null || true
}

# Starts all hosts and waits for them; leaves the worst exit code in CODE.
start_all() {
  local host code port="$1"
  PIDS=()
  CODE=0
  for ((host = 0; host < processes; host++)); do
    run_or_show env JAX_PLATFORMS=cpu "JAX_NUM_CPU_DEVICES=$devices" \
      "$PYTHON" -m "noise_sched.$command" "--coordinator=localhost:$port" \
      "--num_hosts=$processes" "--host=$host" "${REST[@]}" &
    if [ -n "$DRY_RUN" ]; then
      wait "$!" # one after the other, so that the lines stay in order
    else
      PIDS+=("$!")
    fi
  done
  for host in ${PIDS[@]+"${PIDS[@]}"}; do
    while :; do
      code=0
      wait "$host" || code=$?
      # A signal interrupts `wait` before the process has ended.
      kill -0 "$host" 2>/dev/null || break
    done
    # The first that fails counts; what the others say of it comes later.
    [ "$CODE" -ne 0 ] || CODE=$code
  done
}

[ -n "$DRY_RUN" ] || prepare_env
trap stop TERM INT
for ((start = 0; start <= restarts; start++)); do
  port=12345
  [ -n "$DRY_RUN" ] || port="$(free_port)"
  start_all "$port"
  if [ -n "$STOPPING" ] || ! starts_again "$CODE"; then
    exit "$CODE"
  fi
  printf 'the run ended with code %s; starting it again (%s of %s)\n' "$CODE" "$((start + 1))" "$restarts" >&2
done
exit "$CODE"
