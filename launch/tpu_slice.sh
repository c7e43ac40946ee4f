#!/usr/bin/env bash
# Train on all hosts of a Cloud TPU slice, which find each other by themselves. Not tested here.
#
#   TPU=my-slice ZONE=us-west4-a bash launch/tpu_slice.sh --config configs/imagenet.py --workdir /mnt/shared/runs/imagenet
#
# Each host needs this checkout in ~/resnet_jax with its packages installed (pip install -e '.[tpu]'), the prepared images
# and a mounted file system for --workdir that all of them share, such as Filestore. A host that was preempted ends the
# others; the same line continues the run.
set -euo pipefail
command="cd resnet_jax && exec python3 train.py $(printf '%q ' "$@")"
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker all --command "$command"
