#!/usr/bin/env bash
# Train on the GPUs of several hosts under SLURM, one process for each GPU. Not tested here.
#
#   sbatch --nodes 2 launch/slurm.sh --config configs/imagenet.py --workdir /shared/runs/imagenet
#
# Set both numbers to the GPUs of a host. Use --gpus-per-node, and not --gpus-per-task or --gpu-bind: with those, SLURM
# shows each process one GPU with the number 0, and JAX, which takes the GPU with the process's number on its host, finds
# none (jax issues 23452 and 28194). Start with srun: outside of it, only a part of SLURM's variables is set (jax issue
# 30073). `srun resnet-jax doctor` reports both.
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM reaches the processes two minutes before the time limit and before a preemption; they save and end, and
# --requeue starts the job again after a preemption or the failure of a host.
set -euo pipefail
exec srun --kill-on-bad-exit=1 python train.py "$@"
