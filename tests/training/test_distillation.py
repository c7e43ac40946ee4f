"""Distillation: its losses against closed forms, and runs that learn from another run."""

import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from flax import nnx
from rich.console import Console

from resnet_jax import ResNet
from resnet_jax.classifier.classifier import Classifier
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.config import Config, DataConfig, EvaluateConfig, ModelConfig, TrainConfig
from resnet_jax.data.augment import normalize
from resnet_jax.data.memory import Dataset, Split, load
from resnet_jax.data.source import open_tfds
from resnet_jax.errors import UsageError, UserError
from resnet_jax.hardware.sharding import make_mesh
from resnet_jax.models.cpu.by_onednn import training_by_onednn
from resnet_jax.models.cpu.processor import has_onednn
from resnet_jax.models.network import Network
from resnet_jax.planning.job import lower, make_job
from resnet_jax.runs.stored import read_latest_info
from resnet_jax.training import loop
from resnet_jax.training.distillation import correlation, decorrelation, divergence
from resnet_jax.training.loop import zero_metrics
from resnet_jax.training.loss import make_criterion
from resnet_jax.training.setup import assemble
from resnet_jax.training.state import create_state
from resnet_jax.training.step import Batch, make_train_step
from resnet_jax.training.teacher import make_teacher
from resnet_jax.weights.torchvision import assign, torchvision_shapes

RNG = np.random.default_rng(0)
STUDENT, TEACHER = (jnp.float32(2 * RNG.normal(size=(6, 5))) for _ in range(2))
IMAGES = RNG.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
MEAN, STD = np.array([0.5, 0.4, 0.3], np.float32), np.array([0.2, 0.25, 0.3], np.float32)


def total(loss, temperature: float):
    return lambda logits: loss(logits, TEACHER, temperature).sum()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_gradient_of_the_divergence_is_the_temperature_times_the_difference_of_the_probabilities(temperature):
    student, teacher = (jax.nn.softmax(it / temperature) for it in (STUDENT, TEACHER))
    got = jax.grad(total(divergence, temperature))(STUDENT)
    np.testing.assert_allclose(got, temperature * (student - teacher), atol=1e-5)


def test_the_divergence_from_equal_logits_is_zero_and_so_is_its_gradient():
    loss = lambda logits: divergence(logits, STUDENT, 4.0).sum()  # noqa: E731
    value, gradient = jax.value_and_grad(loss)(STUDENT)
    assert abs(value) < 1e-5 and abs(gradient).max() < 1e-6


def test_the_divergence_from_other_logits_is_positive():
    assert (divergence(STUDENT, TEACHER, 1.0) > 0).all()


def test_correlation_is_pearsons():
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(STUDENT, TEACHER, strict=True)]
    np.testing.assert_allclose(correlation(STUDENT, TEACHER, axis=1), expected, atol=1e-6)


def test_dist_is_zero_for_probabilities_that_are_an_affine_function_of_the_teachers():
    teacher = jax.nn.softmax(TEACHER)
    student = 0.3 * teacher + 0.7 / 5
    np.testing.assert_allclose(decorrelation(jnp.log(student), TEACHER, 1.0), 0, atol=1e-5)


def test_dist_is_its_definition():
    student, teacher = (np.asarray(jax.nn.softmax(it / 2)) for it in (STUDENT, TEACHER))
    inter = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(student, teacher, strict=True)]
    intra = 1 - np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(student.T, teacher.T, strict=True)])
    np.testing.assert_allclose(decorrelation(STUDENT, TEACHER, 2.0), 4 * (np.array(inter) + intra), rtol=1e-5)


def test_the_gradient_of_dist_is_that_of_finite_differences():
    loss = jax.jit(total(decorrelation, 2.0))
    gradient = jax.grad(loss)(STUDENT)
    step = 0.01 * gradient / jnp.linalg.norm(gradient)
    difference = (loss(STUDENT + step) - loss(STUDENT - step)) / 0.02
    assert float(jnp.linalg.norm(gradient)) == pytest.approx(float(difference), rel=1e-2)


def test_dist_has_a_gradient_where_all_images_get_the_same_probabilities():
    gradient = jax.grad(total(decorrelation, 1.0))(jnp.zeros_like(STUDENT))
    assert jnp.isfinite(gradient).all()


def test_the_loss_is_that_of_the_labels_plus_the_weighted_part_of_the_teacher():
    labels = jnp.eye(5)[RNG.integers(0, 5, 6)]
    criterion = make_criterion(distillation="dist", distillation_weight=3.0, temperature=2.0)
    alone, taught = criterion(STUDENT, labels, None), criterion(STUDENT, labels, TEACHER)
    np.testing.assert_allclose(alone, optax.softmax_cross_entropy(STUDENT, labels), rtol=1e-6)
    np.testing.assert_allclose(taught - alone, 3 * decorrelation(STUDENT, TEACHER, 2.0), rtol=1e-4)


def small_network() -> Classifier:
    network = Network("resnet18", 3, "cifar", 1)
    preprocessing = Preprocessing((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), 8, 8)
    model = network.abstract()
    shapes = torchvision_shapes(model)
    assign(model, {key: RNG.uniform(0.5, 1, shape).astype(np.float32) for key, shape in shapes.items()})
    return Classifier(model, network, ("a", "b", "c"), preprocessing, {})


def test_a_teacher_sees_the_images_as_its_own_preprocessing_makes_them():
    classifier = small_network()
    teacher = make_teacher(classifier, "it", np.array([2, 0, 1]), MEAN, STD, "float32")
    logits = nnx.jit(lambda model: model(classifier.preprocessing.normalize(IMAGES)))(classifier.model)
    expected = logits[:, np.array([2, 0, 1])]
    got = jax.jit(teacher.logits)(teacher.weights, normalize(jnp.asarray(IMAGES), MEAN, STD))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.skipif(not has_onednn(), reason="this jaxlib has no oneDNN")
@pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache entry")
def test_a_teacher_computed_by_onednn_has_the_same_logits():
    teacher = make_teacher(small_network(), "it", np.array([2, 0, 1]), MEAN, STD, "float32")
    images = normalize(jnp.asarray(IMAGES), MEAN, STD)
    expected = jax.jit(teacher.logits)(teacher.weights, images)
    with training_by_onednn(True):
        lowered = jax.jit(lambda *args: teacher.logits(*args)).lower(teacher.weights, images)
    assert "__onednn$convolution" in lowered.as_text()
    np.testing.assert_allclose(lowered.compile()(teacher.weights, images), expected, rtol=1e-5)


class ResNet4(ResNet):
    """One block in each stage, to compile fast."""

    stage_sizes = (1, 1, 1, 1)


def test_a_student_that_equals_its_teacher_is_not_changed_by_the_teachers_part():
    model = nnx.jit(lambda: ResNet4(3, stem="cifar", width=2))()
    images, optimizer = normalize(jnp.asarray(IMAGES), MEAN, STD), optax.sgd(1.0)
    logits = nnx.jit(lambda model: model(images))(model)
    only_teacher = lambda logits, soft_labels, teacher_logits: divergence(logits, teacher_logits, 4.0)  # noqa: E731
    step = make_train_step(nnx.graphdef(model), optimizer, criterion=only_teacher, frozen_statistics=True)
    before = create_state(model, optimizer, jax.random.key(0), ema=False)
    after, _ = jax.jit(step)(before, Batch(images, jnp.full((4, 3), 1 / 3), logits))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after.params, before.params)


def colors(names: tuple[str, ...] = ("a", "b", "c")) -> Dataset:
    """Return images whose class is their brightest channel."""
    labels = np.arange(24, dtype=np.int32) % 3
    images = (
        RNG.integers(0, 100, (24, 8, 8, 3), dtype=np.uint8) + 100 * np.eye(3, dtype=np.uint8)[labels][:, None, None]
    )
    return Dataset("colors", names, Split(images, labels), Split(images[:6], labels[:6]))


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Return the folder of the data, of a teacher's run on the digits and of a student's, and the student's config."""
    folder = tmp_path_factory.mktemp("distillation")
    load(open_tfds("digits", folder / "data"), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_mesh", lambda size: make_mesh(size, jax.devices()[:1]))
        teacher = Config(
            model=ModelConfig(width=2),
            data=DataConfig(name="digits", dir=folder / "data"),
            train=TrainConfig(epochs=2, batch_size=128),
            evaluate=EvaluateConfig(every_epochs=2),
        )
        loop.complete(teacher, folder / "teacher", Console(quiet=True))
        train = replace(teacher.train, teacher=str(folder / "teacher"), temperature=4.0, epochs=3)
        student = replace(teacher, train=train)
        loop.complete(student, folder / "student", Console(quiet=True))
        yield folder, student


@pytest.mark.slow  # trains two networks
def test_the_checkpoints_of_a_student_name_its_teacher(taught):
    folder, student = taught
    info = read_latest_info(folder / "student" / "checkpoints").info["teacher"]
    assert (info["source"], info["arch"], info["width"]) == (student.train.teacher, "resnet18", 2)


@pytest.mark.slow  # trains two networks
def test_a_student_is_resumed_to_the_same_weights(taught):
    folder, student = taught
    steps = folder / "student" / "checkpoints"
    last = max(steps.glob("[0-9]*"), key=lambda it: int(it.name))
    before = read_latest_info(steps).step
    expected = loop.read_summary(folder / "student")
    last.rename(folder / "last")
    (folder / "student" / "summary.json").unlink()
    got = loop.complete(student, folder / "student", Console(quiet=True))
    assert read_latest_info(steps).step == before
    assert got["test_loss"] == expected["test_loss"]


@pytest.mark.slow  # trains two networks
def test_the_weights_of_the_teacher_are_arguments_of_the_program(taught):
    folder, student = taught
    dataset = load(open_tfds("digits", folder / "data"), None)
    run, state = assemble(student, dataset, make_mesh(128, jax.devices()[:1]))
    jaxpr = jax.make_jaxpr(run.program.run_steps)(state, zero_metrics(run.mesh), run.data, run.feed.take(0, 1))
    assert max((np.size(constant) for constant in jaxpr.consts), default=0) < 100
    assert len(jax.tree.leaves(run.data.weights)) > 100


@pytest.mark.slow  # trains two networks
@pytest.mark.parametrize("feed", ["resident", "stream"])
def test_a_plan_counts_the_forward_pass_of_the_teacher(taught, monkeypatch, feed):
    monkeypatch.setitem(vars(jaxtyping.config), "jaxtyping_disable", True)  # a state holds shapes here
    _, student = taught
    student = replace(student, data=replace(student.data, feed=feed))
    jobs = (
        make_job(replace(student, train=it), None, None, None, memory_bytes=16 * 2**30)
        for it in (replace(student.train, teacher=None), student.train)
    )
    alone, with_teacher = (lower(job, 128, None, 128).cost_analysis() for job in jobs)
    assert 1.2 < with_teacher["flops"] / alone["flops"] < 1.6  # of a step, a forward pass is a third


@pytest.mark.slow  # trains two networks
def test_a_teacher_of_other_classes_is_refused_with_their_names(taught):
    _, student = taught
    with pytest.raises(UsageError, match=r"--train\.teacher.*: a, b, c"):
        assemble(student, colors(), make_mesh(8, jax.devices()[:1]))


@pytest.mark.slow  # trains two networks
def test_a_run_does_not_go_on_with_another_teacher(taught, tmp_path):
    folder, student = taught
    shutil.copytree(folder / "student", tmp_path / "student")
    (tmp_path / "student" / "summary.json").unlink()
    other = folder / "teacher" / "checkpoints"
    other.rename(folder / "aside")
    shutil.copytree(folder / "student" / "checkpoints", other)
    with pytest.raises(UserError, match="teacher crc32"):
        loop.complete(student, tmp_path / "student", Console(quiet=True))
