# docker build -f docker/tpu.Dockerfile -t resnet-jax .
# docker run --privileged --net host --init --stop-timeout 60 --shm-size 8g -v resnet-jax:/root -v "$PWD/runs:/app/runs" \
#     resnet-jax train --config configs/cifar10.py --workdir runs/cifar10
#
# For a Cloud TPU VM, whose devices need the privileges. The volume `resnet-jax` keeps data sets and compiled programs.
# `docker stop` saves the run, and the same command continues it. This file has not been built or run.
FROM python:3.12-slim
WORKDIR /app
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip pip install '.[tpu]'
ENTRYPOINT ["resnet-jax"]
CMD ["doctor"]
