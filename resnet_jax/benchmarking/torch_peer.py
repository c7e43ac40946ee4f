"""The same network and training step in PyTorch, to be timed for comparison."""

from resnet_jax.benchmarking.torch_network import make_network
from resnet_jax.config import ModelConfig
from resnet_jax.errors import UserError

MOMENTUM, WEIGHT_DECAY, LEARNING_RATE = 0.9, 5e-4, 0.01


class TorchPeer:
    """Forward pass and training step of torchvision's network, channels last; on a GPU compiled by `torch.compile`.

    Args:
        network: architecture, stem, width and type of the computation; with "bfloat16" in autocast, whose weights stay
            float32, like ours.
        num_classes: number of logits.
        batch_size, image_size: of the random batch.
        device: JAX's name of the device, "cpu" or "gpu".

    The caller has called `check`.
    """

    def __init__(self, network: ModelConfig, *, num_classes: int, batch_size: int, image_size: int, device: str):
        import torch

        self.version, self.threads = torch.__version__, torch.get_num_threads()
        self._torch, self._device = torch, torch.device({"cpu": "cpu", "gpu": "cuda"}[device])
        model = make_network(network, num_classes)
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        model = model.to(self._device, memory_format=torch.channels_last)
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(batch_size, 3, image_size, image_size, generator=generator)
        self._images = images.to(self._device, memory_format=torch.channels_last)
        self._labels = torch.randint(num_classes, (batch_size,), generator=generator).to(self._device)
        self._autocast = torch.autocast(self._device.type, torch.bfloat16, enabled=network.dtype == "bfloat16")
        groups = [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.SGD(groups, lr=LEARNING_RATE, momentum=MOMENTUM, nesterov=True)
        if device == "gpu":
            torch.backends.cudnn.benchmark = True  # tries several algorithms for convolutions, as XLA does
            torch.set_float32_matmul_precision("high")  # TF32, XLA's own choice for float32
            model = torch.compile(model)
        self._model = model

    def forward(self, steps: int) -> int:
        """Normalized images to logits, in evaluation mode."""
        self._model.eval()
        with self._torch.inference_mode(), self._autocast:
            for _ in range(steps):
                self._model(self._images)
        return self._finished(steps)

    def train(self, steps: int) -> int:
        """Gradient of the mean cross-entropy, and a step of SGD."""
        self._model.train()
        for _ in range(steps):
            self._optimizer.zero_grad()
            with self._autocast:
                loss = self._torch.nn.functional.cross_entropy(self._model(self._images), self._labels)
            loss.backward()
            self._optimizer.step()
        return self._finished(steps)

    def _finished(self, steps: int) -> int:
        if self._device.type == "cuda":
            self._torch.cuda.synchronize()
        return steps


def check_installed() -> None:
    """Raise a `UserError` unless PyTorch and torchvision can be imported."""
    try:
        import torch  # noqa: F401
        import torchvision  # noqa: F401
    except ImportError as error:
        remedy = "pip install -e '.[parity]' in a checkout of this project"
        raise UserError(
            f"--against torch: {error.name} is not installed, expected torch and torchvision: {remedy}"
        ) from error


def check(device: str, devices: int) -> None:
    """Raise a `UserError` unless PyTorch can compute on JAX's `device`, "cpu" or "gpu", and there is only one GPU."""
    check_installed()
    import torch

    if device not in ("cpu", "gpu"):
        raise UserError(f"--against torch: got JAX on {device}, expected a CPU or GPU: set JAX_PLATFORMS=cpu")
    if device == "gpu" and devices > 1:
        raise UserError(f"--against torch: got {devices} GPUs, expected one: set CUDA_VISIBLE_DEVICES=0")
    if device == "gpu" and not torch.cuda.is_available():
        remedy = "install PyTorch with CUDA, or set JAX_PLATFORMS=cpu"
        raise UserError(f"--against torch: got JAX on a GPU and PyTorch {torch.__version__} without one: {remedy}")
