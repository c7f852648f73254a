# shellcheck shell=bash
# Sourced by the launchers: XLA's settings for several devices. The one place where they are written.
#
# What is set already is left as it is, so that a run can do with others: LIBTPU_INIT_ARGS='' bash launch/...
# docs/results/preflight.md says what they change in the programs compiled for TPUs.

# TPU: gradients are summed and parameters gathered while the next layers are computed.
#   async_collective_fusion*        collectives start early and end late, fused with what goes on meanwhile
#   overlap_compute_collective_tc   matrix products go on during them
#   data_parallel_*                 all-reduces of gradients of different sizes are merged and overlapped
TPU_FLAGS="--xla_tpu_enable_async_collective_fusion=true \
--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true \
--xla_tpu_enable_async_collective_fusion_multiple_steps=true \
--xla_tpu_overlap_compute_collective_tc=true \
--xla_tpu_enable_data_parallel_all_reduce_opt=true \
--xla_tpu_data_parallel_opt_different_sized_ops=true"

# GPU: the same by the scheduler that hides latencies.
GPU_FLAGS="--xla_gpu_enable_latency_hiding_scheduler=true"

# Prints the environment, NAME=VALUE, of a platform: tpu, gpu or cpu.
xla_environment() {
  case "$1" in
    tpu) printf 'LIBTPU_INIT_ARGS=%s\n' "${LIBTPU_INIT_ARGS-$TPU_FLAGS}" ;;
    gpu) printf 'XLA_FLAGS=%s\n' "${XLA_FLAGS-$GPU_FLAGS}" ;;
    cpu) ;;
    *) fail "the platform $1 is none of tpu, gpu, cpu" ;;
  esac
}
