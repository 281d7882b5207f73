#!/bin/bash
# An archive on Slurm: every task of the array runs the same command on the same folders.
#
#     sbatch configs/slurm_array.sh SLIDES OUT [options of `wsi-engine run`]
#
# SLIDES is a folder, a pattern in quotes, or a manifest (.csv); OUT is on a disk that all nodes see.
# Claims in OUT see to it that no slide is done twice; a task begins with its own share and then
# helps with the others. Submit it again to go on with whatever is left. It runs without Slurm, too.
#SBATCH --job-name=wsi-engine
#SBATCH --array=1-8
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --gres=gpu:1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@60
set -euo pipefail

slides=${1:?"give the slides, then the folder for the results"}
output=${2:?"give the folder for the results after the slides"}
shift 2

first=${SLURM_ARRAY_TASK_MIN:-1}
tasks=${SLURM_ARRAY_TASK_COUNT:-1}
# Of an array with gaps (0-14:2, or 3,7) some tasks begin with the same share, which costs little.
task=$(((${SLURM_ARRAY_TASK_ID:-1} - first) % tasks + 1))
if [[ -n ${SLURM_CPUS_PER_TASK:-} ]]; then
    export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
    set -- --workers "$SLURM_CPUS_PER_TASK" "$@"
fi
if [[ $slides == *.csv ]]; then
    set -- --manifest "$slides" "$@"
else
    set -- "$slides" "$@"
fi

mkdir -p "$output/.archive"
log="$output/.archive/${SLURM_ARRAY_JOB_ID:-here}_${SLURM_ARRAY_TASK_ID:-1}.jsonl"
# exec, so that Slurm's signal reaches the run, which then ends in good order.
exec wsi-engine run --output "$output" --share "$task/$tasks" --log "$log" "$@"
