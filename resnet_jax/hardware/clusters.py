"""Clusters that start several processes of a program, as their variables show."""

from collections.abc import Mapping
from pathlib import Path
from urllib.request import Request, urlopen


def announced(environ: Mapping[str, str], root: Path = Path("/")) -> str | None:
    """Return the cluster that has started several processes, if it is one whose other processes JAX finds.

    Args:
        environ: environment variables.
        root: of the file system.
    """
    if int(environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_STEP_NODELIST" in environ:
        return "SLURM"
    if int(environ.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        return "Open MPI"
    if "KUBERNETES_SERVICE_HOST" in environ and "JOB_COMPLETION_INDEX" in environ:
        return "Kubernetes"
    if "," in _tpu_hosts(environ, root):
        return "Cloud TPU"
    return None


def _tpu_hosts(environ: Mapping[str, str], root: Path) -> str:
    """Return the hosts of a TPU slice, separated by commas: variables in Kubernetes, elsewhere Google's metadata."""
    for name in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"):
        if name in environ:
            return environ[name]
    devices = [path for pattern in ("accel[0-9]*", "vfio/[0-9]*") for path in (root / "dev").glob(pattern)]
    if not devices or "TPU_SKIP_MDS_QUERY" in environ:
        return ""
    server = environ.get("GCE_METADATA_IP", "metadata.google.internal")
    address = f"http://{server}/computeMetadata/v1/instance/attributes/worker-network-endpoints"
    try:
        with urlopen(Request(address, headers={"Metadata-Flavor": "Google"}), timeout=2) as answer:
            return answer.read().decode()
    except OSError:  # another machine with such devices, or a TPU with one host
        return ""
