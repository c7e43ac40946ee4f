"""Whether the processes of a job find each other and their GPUs."""

from collections.abc import Mapping

from resnet_jax.diagnosing.finding import Finding

STEP = ("SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
"""Variables of a process that srun has started, without which JAX does not look for others (jax issue 30073)."""


def slurm(environ: Mapping[str, str]) -> Finding:
    """Report how a job of SLURM would run: its variables are not complete outside srun, and may hide GPUs."""
    tasks = int(environ.get("SLURM_NTASKS", 1))
    if tasks == 1:
        return Finding("ok", "processes", "one under SLURM")
    if missing := [name for name in STEP if name not in environ]:
        found = f"a SLURM job of {tasks}, of which this process is none: {', '.join(missing)} not set"
        return Finding("note", "processes", found, "start the training with srun; without it, it is a single process")
    if "SLURM_GPUS_PER_TASK" in environ:
        found = f"{tasks} under SLURM, each of which sees one GPU and asks for that with its own number on the host"
        remedy = "`sbatch --gpus-per-node` in the place of `sbatch --gpus-per-task` (jax issues 23452 and 28194)"
        return Finding("problem", "processes", found, remedy)
    return Finding("ok", "processes", f"{tasks} under SLURM")
