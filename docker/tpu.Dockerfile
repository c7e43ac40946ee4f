# docker build -f docker/tpu.Dockerfile -t resnet-jax .
# docker run --privileged --net=host --shm-size=8g -v "$PWD/runs:/app/runs" resnet-jax train --config configs/cifar10.py
# For a Cloud TPU VM, whose devices need the privileges. This file has not been built or run yet.
FROM python:3.12-slim
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir '.[tpu]'
ENTRYPOINT ["resnet-jax"]
CMD ["doctor"]
