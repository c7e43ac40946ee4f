# docker build -f docker/gpu.Dockerfile -t resnet-jax .
# docker run --gpus all --init --stop-timeout 60 --shm-size 8g -v resnet-jax:/root -v "$PWD/runs:/app/runs" \
#     resnet-jax train --config configs/cifar10.py --workdir runs/cifar10
#
# The machine needs NVIDIA's driver 580 or newer and its container toolkit. The volume `resnet-jax` keeps data sets and
# compiled programs. `docker stop` saves the run, and the same command continues it. This file has not been built or run.
FROM python:3.12-slim
WORKDIR /app
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip pip install '.[cuda13]'
ENTRYPOINT ["resnet-jax"]
CMD ["doctor"]
