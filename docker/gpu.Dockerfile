# docker build -f docker/gpu.Dockerfile -t resnet-jax .
# docker run --gpus all --shm-size=8g -v "$PWD/runs:/app/runs" resnet-jax train --config configs/cifar10.py
# The machine needs NVIDIA's driver 580 or newer and its container toolkit. This file has not been built or run yet.
FROM python:3.12-slim
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir '.[cuda13]'
ENTRYPOINT ["resnet-jax"]
CMD ["doctor"]
