"""Compute with this package what `record.py` computes with torchvision, under the same keys, in the same layouts."""

import jax
import numpy as np
import optax
from flax import nnx
from golden import draw

from resnet_jax import ResNet
from resnet_jax.weights.torchvision import to_torchvision


def evaluate(model: ResNet, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return what a record holds of `model` before its training, uncondensed."""
    return {key: np.asarray(tensor) for key, tensor in _forward(model, images[0], "eval").items()}


def replay(model: ResNet, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Train `model`, in place, for a step on each of the batches and return what a record holds, uncondensed."""
    optimizer = optax.chain(
        optax.add_decayed_weights(draw.WEIGHT_DECAY), optax.sgd(draw.LEARNING_RATE, momentum=draw.MOMENTUM)
    )
    trainer = nnx.Optimizer(model, optimizer, wrt=nnx.Param)
    tensors = evaluate(model, images)
    for step, (inputs, targets) in enumerate(zip(images, labels, strict=True)):
        outputs, gradients = _train_step(model, trainer, inputs, targets)
        if step == 0:
            tensors |= outputs
            tensors |= {f"gradient/{key}": value for key, value in to_torchvision(gradients).items()}
    tensors |= {f"trained/{key}": value for key, value in to_torchvision(model).items() if not key.endswith("tracked")}
    return {key: np.asarray(tensor) for key, tensor in tensors.items()}


@nnx.jit(static_argnums=2)
def _forward(model: ResNet, images: jax.Array, mode: str) -> dict[str, jax.Array]:
    pooled, stages = model.features(images, train=mode == "train")
    maps = {f"{mode}/layer{stage}": maps.transpose(0, 3, 1, 2) for stage, maps in enumerate(stages, start=1)}
    return {f"{mode}/logits": model.fc(pooled)} | maps


@nnx.jit
def _train_step(
    model: ResNet, trainer: nnx.Optimizer, images: jax.Array, labels: jax.Array
) -> tuple[dict[str, jax.Array], nnx.State]:
    def loss_and_outputs(model):
        outputs = _forward(model, images, "train")
        loss = optax.softmax_cross_entropy_with_integer_labels(outputs["train/logits"], labels).mean()
        return loss, outputs | {"train/loss": loss}

    gradients, outputs = nnx.grad(loss_and_outputs, has_aux=True)(model)
    trainer.update(model, gradients)
    return outputs, nnx.state(gradients, nnx.Param)  # in NNX's tree mode, running statistics have gradients too
