"""JAX's own switches, JAX_ENABLE_X64 and JAX_DISABLE_JIT: everything works with them, and stays in float32."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax import ResNet, ResNet18
from resnet_jax.config import AugmentConfig, Config, OptimizerConfig, TrainConfig
from resnet_jax.data.resident import ResidentData, epoch_order
from resnet_jax.errors import UserError
from resnet_jax.hardware.compilation import compile_lowered
from resnet_jax.training.metrics import TrainMetrics
from resnet_jax.training.program import Program, Shapes, make_program
from resnet_jax.training.step import make_eval_step

AUGMENT = AugmentConfig(crop_padding=1, flip="alternating", cutout=3, small_size=4)
STRONG = AugmentConfig(flip="random", rand_augment=9, erasing=0.5, mixup=0.2, cutmix=1.0, small_size=4)
TRAIN = TrainConfig(epochs=4, batch_size=8, label_smoothing=0.1, ema_decay=0.99)
CONFIGS = {
    "sgd": Config(augment=replace(AUGMENT, flip="random"), train=TRAIN, optimizer=OptimizerConfig(layer_factor=0.5)),
    "lamb": Config(
        augment=STRONG,
        train=replace(TRAIN, loss="bce"),
        optimizer=OptimizerConfig(method="lamb", schedule="cosine", clip_norm=1.0),
    ),
    "muon": Config(augment=AUGMENT, train=TRAIN, optimizer=OptimizerConfig(muon_learning_rate=0.02)),
}
DATA = ResidentData(
    np.random.default_rng(0).integers(0, 256, (32, 8 * 8 * 3), np.uint8), np.arange(32, dtype=np.int32) % 10
)
ORDER = np.arange(16, dtype=np.int32).reshape(2, 8)


class ResNet4(ResNet):
    """A ResNet with one block in each stage."""

    stage_sizes = (1, 1, 1, 1)


def draw() -> ResNet:
    return ResNet4(10, stem="cifar", width=2, zero_init=True)


def program(config: Config) -> Program:
    mean, std = np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32)
    return make_program(config, nnx.eval_shape(draw), Shapes(32, (8, 8, 3), 10), mean, std)


def types(tree) -> list[str]:
    return [str(leaf.dtype) for leaf in jax.tree.leaves(tree)]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def float64_arrays(jaxpr) -> list[str]:
    """Return the types of the arrays of three axes or more, such as maps and kernels, that a program has in float64."""
    return re.findall(r"f64\[\d+(?:,\d+){2,}\]", str(jaxpr))


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_training_step_keeps_the_types_of_its_state_in_64_bits(x64, name, small):
    it = program(CONFIGS[name])
    arguments = it.create_state(draw()), TrainMetrics.zero()
    before = types(arguments)
    assert {"float64", "int64", "uint64"}.isdisjoint(before)
    steps = it.run_small_steps if small else it.run_steps
    jaxpr = jax.make_jaxpr(steps)(*arguments, DATA, ORDER)
    assert [str(aval.dtype) for aval in jaxpr.out_avals] == before
    assert float64_arrays(jaxpr) == []


def test_an_evaluation_computes_no_map_in_float64(x64):
    graphdef, params, stats = nnx.split(draw(), nnx.Param, nnx.BatchStat)
    step = make_eval_step(graphdef, lambda images: images.astype(jnp.float32), devices=8, tta="full")
    images, labels, mask = np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int32), np.ones(4, bool)
    jaxpr = step.trace(params, stats, images, labels, mask).jaxpr
    assert {str(aval.dtype) for aval in jaxpr.out_avals} == {"float32", "int32"}
    assert float64_arrays(jaxpr) == []


@pytest.mark.parametrize("name", CONFIGS)
def test_the_schedule_is_float32_in_64_bits(name):
    def rates():
        return list(map(program(CONFIGS[name]).schedule, jnp.arange(16, dtype=jnp.int32)))

    narrow = rates()
    with jax.enable_x64(True):
        wide = rates()
    assert set(types(wide)) == {"float32"}
    np.testing.assert_allclose(wide, narrow, rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", pytest.param("lamb", marks=pytest.mark.slow), "muon"])  # RandAugment compiles
def test_order_and_augmentation_are_the_same_in_64_bits(name):
    def batch():
        it = program(CONFIGS[name])
        order = epoch_order(jax.random.key(0), 3, 32, 8)
        return jax.jit(it.make_batch)(DATA, order[0], jax.random.key(1), jnp.int32(5))

    expected = batch()
    with jax.enable_x64(True):
        got = batch()
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float64])
def test_parameters_statistics_and_logits_are_float32_in_64_bits(x64, dtype):
    def trained():
        model = ResNet4(10, stem="cifar", width=2, dtype=dtype, zero_init=True)
        logits = model(jnp.zeros((2, 8, 8, 3)), train=True)
        return logits, nnx.state(model, (nnx.Param, nnx.BatchStat))

    assert set(types(nnx.eval_shape(trained))) == {"float32"}


EXERCISE = """
import json, shutil, sys
from pathlib import Path
from dataclasses import replace
import jax, jax.numpy as jnp, numpy as np, optax
from flax import nnx
from PIL import Image
from resnet_jax import ResNet18, load_classifier, to_torchvision
from resnet_jax.commands.evaluate import EvalData, evaluate
from resnet_jax.commands.export import export
from resnet_jax.commands.predict import predict
from resnet_jax.config import AugmentConfig, Config, DataConfig, EvaluateConfig, ModelConfig, TrainConfig
from resnet_jax.training.loop import train

folder = Path(sys.argv[1])
config = Config(
    model=ModelConfig(width=2), data=DataConfig(name="digits", dir=folder / "data"),
    augment=AugmentConfig(crop_padding=1, flip="alternating", cutout=2),
    train=TrainConfig(epochs=2, batch_size=512, ema_decay=0.9), evaluate=EvaluateConfig(tta="flip"),
)
facts = {"summary": train(config, folder / "run")}

def weights():
    tensors = to_torchvision(load_classifier(folder / "run").model)
    return {key: tensor.tobytes() for key, tensor in tensors.items()}, {str(it.dtype) for it in tensors.values()}

first, facts["types"] = weights()
facts["types"] = sorted(facts["types"])
for path in (folder / "run").iterdir():  # back to the checkpoint of the first epoch
    if path.name == "checkpoints":
        shutil.rmtree(max(path.glob("[0-9]*"), key=lambda it: int(it.name)))
    elif path.name == "summary.json":
        path.unlink()
train(config, folder / "run")
facts["resumed equals"] = weights()[0] == first

Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "a.png")
predict(str(folder / "run"), (str(folder / "a.png"),), explain=True)
evaluate(str(folder / "run"), tta="full")
export(str(folder / "run"), format="stablehlo", out=folder / "it.stablehlo")

class ResNet4(ResNet18):
    stage_sizes = (1, 1, 1, 1)

model = ResNet4(10, stem="cifar", width=2)
optimizer = nnx.Optimizer(model, optax.sgd(optax.cosine_decay_schedule(0.1, 10), momentum=0.9), wrt=nnx.Param)
images, labels = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, 8, 3))), jnp.arange(8)

@nnx.jit
def step(model, optimizer):
    def loss(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(images, train=True), labels).mean()
    value, grads = nnx.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return value

losses = [step(model, optimizer) for _ in range(3)]
facts["loop"] = sorted({str(leaf.dtype) for leaf in jax.tree.leaves((losses, nnx.state(model)))})
facts["losses"] = [float(loss) for loss in losses]
print("FACTS", json.dumps(facts))
"""


@pytest.fixture(scope="module", params=["JAX_ENABLE_X64", "JAX_DISABLE_JIT"])
def facts(request, tmp_path_factory) -> dict:
    """Facts of a process with one switch set that trains, resumes, predicts, evaluates, exports and runs a loop."""
    folder = tmp_path_factory.mktemp("modes")
    environment = os.environ | {request.param: "1", "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-c", EXERCISE, str(folder)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.rpartition("FACTS")[2])


@pytest.mark.slow
def test_a_run_is_trained_resumed_and_used_with_the_switch(facts):
    assert facts["resumed equals"]
    assert facts["types"] == ["float32", "int64"], "the weights, and PyTorch's counters"
    assert facts["summary"]["test_accuracy"] > 0


@pytest.mark.slow
def test_a_users_own_loop_trains_in_float32_with_the_switch(facts):
    assert facts["loop"] == ["float32"]
    assert facts["losses"][-1] < facts["losses"][0]


def test_the_paper_sized_network_is_float32_in_64_bits(x64):
    assert set(types(nnx.state(nnx.eval_shape(ResNet18)))) == {"float32"}


def test_a_command_that_times_compiled_programs_is_refused_without_jit_with_the_name_of_the_variable():
    lowered = jax.jit(jnp.sin).lower(1.0)
    with jax.disable_jit(), pytest.raises(UserError, match="JAX_DISABLE_JIT"):
        compile_lowered(lowered)
