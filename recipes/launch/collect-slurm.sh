#!/bin/bash
# Four processes that collect one run, on whatever nodes are free:
#
#     sbatch recipes/launch/collect-slurm.sh run.toml
#
# STORE is the run's store in PostgreSQL, without a password; that stands in ~/.pgpass, which all nodes share. A task that
# is killed or preempted needs no repeat: the others take over its questions. docs/many-machines.md
#SBATCH --job-name=harvest
#SBATCH --array=1-4
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --output=harvest-%A-%a.log
set -euo pipefail

store="${STORE:-postgresql://harvest@db.example.com/math}"
run="${1:?name the RUN.toml}"
cd "${SLURM_SUBMIT_DIR:-.}"
# Slurm sends SIGTERM 120 s before the time is over: `collect` then waits for what is paid for, and ends with 130.
exec .venv/bin/python -m harvest collect "$run" --store "$store"
