#!/usr/bin/env bash
# A Slurm of one node on this machine, from Debian's packages, to try --engine=slurm out and for its tests:
#
#     sudo bash launch/slurm_one_node.sh          install what is missing, and start
#     sudo bash launch/slurm_one_node.sh --stop   stop it
#
# Not for a cluster: no accounting, no cgroups, no systemd, one partition. It needs root, as munge and slurmd do.
# What it writes: /etc/slurm/slurm.conf (an older one is kept as slurm.conf.before), /var/lib/slurm-one-node.
set -euo pipefail

readonly state=/var/lib/slurm-one-node
host=$(hostname -s)
cores=$(nproc)

stop() {
  pkill -x slurmctld || true
  pkill -x slurmd || true
}

if [[ "${1:-}" == "--stop" ]]; then
  stop
  exit 0
fi
if [[ $(id -u) -ne 0 ]]; then
  echo "error: this starts system services; run it as root." >&2
  exit 2
fi

if ! command -v slurmctld slurmd munged > /dev/null; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q slurm-wlm munge
fi

mkdir -p "$state/ctld" "$state/d" /etc/slurm /run/munge
if [[ ! -s /etc/munge/munge.key ]]; then
  mungekey --create
fi
chown -R munge:munge /etc/munge /run/munge /var/lib/munge /var/log/munge
if ! pgrep -x munged > /dev/null; then
  runuser -u munge -- munged
fi

if [[ -e /etc/slurm/slurm.conf ]] && ! grep -q one-node /etc/slurm/slurm.conf; then
  cp /etc/slurm/slurm.conf /etc/slurm/slurm.conf.before
fi
cat > /etc/slurm/slurm.conf << EOF
# Written by launch/slurm_one_node.sh: one-node
ClusterName=one-node
SlurmctldHost=$host
SlurmUser=root
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/d
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
KillWait=3
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName=$host CPUs=$cores State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
EOF

stop
slurmctld
slurmd
for _ in $(seq 30); do
  if sinfo --noheader --format=%t 2> /dev/null | grep -qE 'idle|mix|alloc'; then
    sinfo
    exit 0
  fi
  sleep 1
done
echo "error: the node did not come up; see $state/slurmctld.log and $state/slurmd.log." >&2
exit 1
