#!/bin/sh
# A training on several machines, each with its GPUs: start this on every one of them.
#
#   NODES=2 NODE=0 FIRST=10.0.0.1 sh recipes/launch/nodes.sh ddp RECIPE.toml          on the first
#   NODES=2 NODE=1 FIRST=10.0.0.1 sh recipes/launch/nodes.sh ddp RECIPE.toml          on the second
#
# The first argument is the recipe's launch.strategy. `output` is a folder that all of them share; the first machine
# has the run's store. Further words (--train.epochs 1) go to `finetune sft`.
# Source: `torchrun --help` and `accelerate launch --help`. Tried with two groups of processes on one machine, on CPUs;
# not on several machines, and not on GPUs.
set -eu
strategy=$1
recipe=$2
shift 2
: "${NODES:?how many machines}" "${NODE:?which of them this is, from 0}" "${FIRST:?address of the first}"
port=${PORT:-29500}
# How long torch waits for a checkpoint after a signal before it kills; its default of 30 s is short for a large student.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-240}"
here=${GPUS:-$(nvidia-smi --list-gpus 2>/dev/null | wc -l)}
[ "$here" -gt 0 ] || { echo "no GPU on this machine: set GPUS to how many processes it is to run" >&2; exit 2; }

case $strategy in
ddp)
  exec torchrun --nnodes "$NODES" --node-rank "$NODE" --nproc-per-node "$here" --master-addr "$FIRST" \
    --master-port "$port" -m finetune sft "$recipe" "$@"
  ;;
fsdp2 | fsdp2-cp | zero3 | zero3-offload)
  exec accelerate launch --config_file "$(dirname "$0")/$strategy.yaml" --num_machines "$NODES" \
    --machine_rank "$NODE" --num_processes "$((NODES * here))" --main_process_ip "$FIRST" \
    --main_process_port "$port" -m finetune sft "$recipe" "$@"
  ;;
*)
  echo "$strategy is no strategy of several processes: ddp, fsdp2, fsdp2-cp, zero3, zero3-offload" >&2
  exit 2
  ;;
esac
