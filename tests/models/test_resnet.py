"""The networks: size, cost, behavior in training and evaluation, and use from other people's code."""

from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from resnet_jax import BottleneckBlock, Conv, ResNet, ResNet18, ResNet50, ResNetBlock
from resnet_jax.models.layers.dropout import StochasticDepth


class ResNet10(ResNet):
    """One block per stage, to compile fast."""

    stage_sizes = (1, 1, 1, 1)


def tiny(**options) -> ResNet:
    return ResNet10(**({"num_classes": 5, "width": 4, "stem": "cifar"} | options))


def draw(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@nnx.jit(static_argnames="train")  # compiled once; without jit it takes several times as long
def forward(model: ResNet, images: jax.Array, *, train: bool = False) -> jax.Array:
    return model(images, train=train)


def statistics(model: ResNet) -> dict[tuple, np.ndarray]:
    return {path: np.array(variable[...]) for path, variable in nnx.to_flat_state(nnx.state(model, nnx.BatchStat))}


@pytest.mark.parametrize("stem, classes, expected", [("imagenet", 1000, 11_689_512), ("cifar", 10, 11_173_962)])
def test_resnet18_has_the_papers_number_of_parameters(stem, classes, expected):
    params = nnx.state(nnx.eval_shape(lambda: ResNet18(num_classes=classes, stem=stem)), nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


@pytest.mark.parametrize(
    "stem, size, classes, expected", [("imagenet", 224, 1000, 1.814e9), ("cifar", 32, 10, 0.555e9)]
)
def test_resnet18_costs_the_papers_number_of_multiplications(monkeypatch, stem, size, classes, expected):
    costs = []
    convolve = Conv.__call__

    def counted(conv, images):
        maps = convolve(conv, images)
        costs.append(maps.size * conv.kernel[..., 0].size)  # every output sums over one filter
        return maps

    monkeypatch.setattr(Conv, "__call__", counted)
    nnx.eval_shape(lambda: ResNet18(num_classes=classes, stem=stem)(jnp.zeros((1, size, size, 3))))
    assert sum(costs) + 512 * classes == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("stem, sizes", [("imagenet", (16, 8, 4, 2)), ("cifar", (64, 32, 16, 8))])
def test_features_hold_the_maps_of_the_four_stages(stem, sizes):
    features = nnx.eval_shape(lambda: tiny(stem=stem).features(jnp.zeros((2, 64, 64, 3))))
    assert [maps.shape for maps in features.stages] == [(2, size, size, 4 * 2**i) for i, size in enumerate(sizes)]


def test_pooled_features_are_the_average_of_the_last_stage():
    features = nnx.jit(ResNet.features)(tiny(), draw(2, 16, 16, 3))
    np.testing.assert_allclose(features.pooled, features.stages[-1].mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_features_of_a_bottleneck_network_have_four_times_the_channels():
    features = nnx.eval_shape(lambda: ResNet50(width=4, num_classes=5).features(jnp.zeros((2, 64, 64, 3))))
    assert [maps.shape[-1] for maps in features.stages] == [16, 32, 64, 128]


def test_logits_are_the_classifier_applied_to_the_pooled_features():
    model, images = tiny(), draw(2, 16, 16, 3)
    expected = model.fc(nnx.jit(ResNet.features)(model, images).pooled)
    np.testing.assert_allclose(forward(model, images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", [ResNetBlock, BottleneckBlock])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_with_zero_init_starts_as_its_shortcut(block, stride):
    channels = 4 * block.expansion
    module = block(channels, 4, stride=stride, zero_init=True, rngs=nnx.Rngs(0))
    images = draw(2, 6, 6, channels)
    shortcut = images
    if stride == 2:
        conv, norm = module.downsample
        shortcut = norm(conv(images), train=False)
    np.testing.assert_array_equal(module(images), nnx.relu(shortcut))


@pytest.mark.parametrize("block", [ResNetBlock, BottleneckBlock])
def test_stochastic_depth_leaves_out_the_residual_of_some_images_and_doubles_the_others(block):
    channels = 4 * block.expansion
    module = block(channels, 4, drop_rate=0.5, rngs=nnx.Rngs(0))
    images = draw(64, 3, 3, channels)
    calm = block(channels, 4, rngs=nnx.Rngs(0))
    residual = jax.jit(lambda images: nnx.merge(*nnx.split(calm), copy=True)(images + 100, train=True) - images - 100)
    shortcut = images + 100  # far above 0, where the ReLU is the identity
    got = module(shortcut, train=True, rngs=nnx.Rngs(dropout=1)) - shortcut
    left_out = abs(got).max((1, 2, 3)) < 1e-3
    np.testing.assert_allclose(got[~left_out], 2 * residual(images)[~left_out], atol=1e-3)
    assert 20 < left_out.sum() < 44


def test_the_rate_of_stochastic_depth_rises_linearly_to_that_of_the_last_block():
    model = nnx.eval_shape(lambda: ResNet18(width=2, drop_path=0.7))
    rates = [module.rate for _, module in nnx.iter_modules(model) if isinstance(module, StochasticDepth)]
    np.testing.assert_allclose(sorted(rates), np.arange(8) / 10, atol=1e-6)


def pulled_back(block, recompute):
    """Return a block's gradient by its parameters, the arrays kept for it, and its new running statistics."""
    module = block(8, 8 // block.expansion, recompute=recompute, rngs=nnx.Rngs(0))
    graphdef, params, rest = nnx.split(module, nnx.Param, ...)
    images = draw(4, 6, 6, 8)

    def outputs(params):
        model = nnx.merge(graphdef, params, rest, copy=True)
        return model(images, train=True), nnx.state(model, nnx.BatchStat)

    _, pullback, statistics = jax.vjp(outputs, params, has_aux=True)
    return pullback(jnp.cos(images))[0], jax.tree.leaves(pullback), statistics


@pytest.mark.parametrize("block", [ResNetBlock, BottleneckBlock])
def test_recomputing_maps_changes_neither_gradients_nor_statistics(block):
    (grads, _, statistics), (expected, _, expected_statistics) = pulled_back(block, True), pulled_back(block, False)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), grads, expected)
    jax.tree.map(np.testing.assert_array_equal, statistics, expected_statistics)


@pytest.mark.parametrize("block", [ResNetBlock, BottleneckBlock])
def test_recomputing_maps_keeps_no_map_after_a_relu(block):
    def kept(recompute):
        return sum(leaf.ndim == 4 and leaf.shape[:3] == (4, 6, 6) for leaf in pulled_back(block, recompute)[1])

    convolutions = 2 if block is ResNetBlock else 3
    assert kept(True) <= 1 + convolutions + 1 < kept(False)  # and the block's input, and the mask of the last ReLU


def test_evaluation_changes_no_running_statistic():
    model = tiny()
    before = statistics(model)
    forward(model, draw(2, 16, 16, 3), train=False)
    assert all(np.array_equal(before[path], after) for path, after in statistics(model).items())


def test_training_changes_every_running_statistic():
    model = tiny()
    before = statistics(model)
    forward(model, draw(2, 16, 16, 3), train=True)
    assert not any(np.array_equal(before[path], after) for path, after in statistics(model).items())


def test_evaluation_of_an_image_does_not_depend_on_its_batch():
    model, images = tiny(), draw(4, 16, 16, 3)
    np.testing.assert_allclose(forward(model, images)[:1], forward(model, images[:1]), rtol=1e-4, atol=1e-5)


def test_bfloat16_keeps_parameters_and_statistics_in_float32():
    model = tiny(dtype=jnp.bfloat16)
    forward(model, draw(2, 16, 16, 3), train=True)
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(jnp.float32)}


def test_bfloat16_computes_its_maps_in_bfloat16_and_its_logits_in_float32():
    model, images = tiny(dtype=jnp.bfloat16), draw(2, 16, 16, 3)
    features = nnx.eval_shape(lambda: model.features(images))
    assert {maps.dtype for maps in features.stages} == {jnp.dtype(jnp.bfloat16)}
    assert nnx.eval_shape(lambda: model(images)).dtype == jnp.float32


def test_bfloat16_logits_are_near_the_float32_ones():
    images = draw(4, 16, 16, 3)
    expected = forward(tiny(), images)
    assert jnp.abs(forward(tiny(dtype=jnp.bfloat16), images) - expected).max() < 0.03 * jnp.abs(expected).max()


def test_the_same_seed_draws_the_same_weights():
    one, two = (jax.tree.leaves(nnx.state(tiny(rngs=nnx.Rngs(3)), nnx.Param)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_ghost_normalization_reaches_every_layer():
    images = draw(4, 16, 16, 3)
    ghost = forward(tiny(norm="ghost", ghost_size=2), images, train=True)
    alone = jnp.concatenate([forward(tiny(), half, train=True) for half in (images[:2], images[2:])])
    np.testing.assert_allclose(ghost, alone, rtol=1e-3, atol=1e-4)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@pytest.fixture(params=[True, False], ids=["graph", "tree"])
def nnx_mode(request):
    """Set NNX's way through modules: as graphs, its default, or as trees, its announced default."""
    with nnx.set_graph_mode(request.param), nnx.set_graph_updates(request.param):
        yield request.param


def test_a_plain_nnx_jit_loop_trains_it(nnx_mode):
    model = tiny(recompute=nnx_mode)
    before = statistics(model)
    optimizer = nnx.Optimizer(model, optax.sgd(0.05, momentum=0.9), wrt=nnx.Param)
    images, labels = draw(8, 16, 16, 3), jnp.arange(8) % 5

    @nnx.jit
    def train_step(model, optimizer, images, labels):
        loss, grads = nnx.value_and_grad(lambda model: cross_entropy(model(images, train=True), labels))(model)
        optimizer.update(model, grads)
        return loss

    losses = [float(train_step(model, optimizer, images, labels)) for _ in range(10)]
    assert losses[-1] < losses[0] / 4
    assert not any(np.array_equal(before[path], after) for path, after in statistics(model).items())


def test_a_pure_step_with_split_and_merge_updates_the_running_statistics():
    model, images, labels = tiny(), draw(4, 16, 16, 3), jnp.arange(4)
    graphdef, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)

    @jax.jit
    def gradients(params, batch_stats):
        def loss(params):
            model = nnx.merge(graphdef, params, batch_stats, copy=True)
            value = cross_entropy(model(images, train=True), labels)
            return value, nnx.state(model, nnx.BatchStat)

        return jax.grad(loss, has_aux=True)(params)

    _, new = gradients(params, batch_stats)
    forward(model, images, train=True)
    for got, expected in zip(jax.tree.leaves(new), jax.tree.leaves(nnx.state(model, nnx.BatchStat)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_the_network_runs_as_a_linen_module_with_mutable_statistics():
    module = nnx.bridge.to_linen(ResNet10, num_classes=5, width=4, stem="cifar")
    images = draw(2, 16, 16, 3)
    variables = jax.jit(module.init)(jax.random.key(0), images)
    apply = jax.jit(lambda variables: module.apply(variables, images, train=True, mutable=["batch_stats"]))
    logits, updates = apply(variables)
    assert logits.shape == (2, 5)
    old, new = (np.asarray(tree["batch_stats"]["bn1"]["mean"]) for tree in (variables, updates))
    assert not np.array_equal(old, new)


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_it_is_exported_for_images_of_any_number_and_size_on_every_platform(stem):
    model, platforms = tiny(stem=stem), ("cpu", "cuda", "tpu")
    images = jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch, height, width, 3"), jnp.float32)
    exported = jax.export.export(jax.jit(model), platforms=platforms)(images)
    assert exported.platforms == platforms
    for shape in ((2, 33, 40, 3), (1, 9, 8, 3)):  # the later stages of the smaller one have outputs of up to 2x2 pixels
        images = draw(*shape)
        np.testing.assert_allclose(exported.call(images), forward(model, images), rtol=1e-4, atol=1e-5)
