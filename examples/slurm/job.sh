#!/bin/bash
#SBATCH --job-name=mint
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus=1
#SBATCH --mem=64G
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=mint-%j.log

# sbatch job.sh OPTIONS: `mint run OPTIONS`, which goes on after the time limit. --signal tells this script five minutes before;
# it passes that on, and waits until mint has saved.
srun mint run "$@" &
run=$!
trap 'kill -TERM "$run"' TERM

wait "$run"
code=$?
if [ "$code" -eq 143 ]; then  # the signal ended the first wait, not the run
    wait "$run"
    code=$?
fi
if [ "$code" -eq 130 ] || [ "$code" -eq 143 ]; then
    echo "Interrupted and saved; job $SLURM_JOB_ID goes back into the queue."
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
