"""Planning for machines that are not present: targets, figures of the compilers, ceilings, and the command."""

import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from flax import nnx
from jax.experimental.compilation_cache import compilation_cache
from jax.experimental.layout import Format, Layout
from jax.sharding import PartitionSpec

from resnet_jax.cli import call
from resnet_jax.config import AugmentConfig, Config, DataConfig, ModelConfig, TrainConfig
from resnet_jax.data.resident import ResidentData
from resnet_jax.errors import UsageError, UserError
from resnet_jax.hardware.chips import GIB
from resnet_jax.hardware.compiled import Work, tpu_refusal, work_of
from resnet_jax.hardware.hlo import collectives, memory_traffic, size_of
from resnet_jax.hardware.sharding import make_mesh, replicated, sharded
from resnet_jax.planning.ceiling import Seconds, answers, seconds_of, speed
from resnet_jax.planning.job import MEAN, STD, lower, make_job
from resnet_jax.planning.report import (
    decoding_sentences,
    duration,
    largest_sentence,
    memory_sentence,
    network_sentences,
)
from resnet_jax.planning.sizing import Compiler, Needs, largest_batch
from resnet_jax.planning.targets import devices_of, parse_target
from resnet_jax.recipe import load_config
from resnet_jax.training.metrics import TrainMetrics
from resnet_jax.training.model import make_model
from resnet_jax.training.program import Shapes, make_program

REPO = Path(__file__).parents[2]
QUIET = jax.config.jax_platforms == "cpu"  # otherwise JAX tries to start the plugins of machines that are not present
TPU = pytest.mark.skipif(not (QUIET and find_spec("libtpu")), reason="needs the extra plan, JAX_PLATFORMS=cpu")
CUDA = pytest.mark.skipif(
    not (QUIET and find_spec("jax_cuda13_plugin")), reason="needs the extra plan, JAX_PLATFORMS=cpu"
)
JOB = make_job(
    Config(data=DataConfig(name="cifar10"), train=TrainConfig(epochs=2)), None, None, None, memory_bytes=16 * GIB
)


@pytest.mark.parametrize(
    ("text", "kind", "count"),
    [
        *(("v5e:4x4", "v5e", 16), ("v6e:1x1", "v6e", 1), ("v4:2x2x1", "v4", 4), ("v5p:2x2x4", "v5p", 16)),
        *(("h100", "h100", 1), ("H100:8", "h100", 8), ("a100:2", "a100", 2)),
    ],
)
def test_a_target_is_a_chip_and_a_number_of_chips(text, kind, count):
    target = parse_target(text)
    assert (target.chip.name, target.count) == (kind, count)


@pytest.mark.parametrize(
    "text",
    ["v5e", "v5e:", "v5e:4", "v5e:2x2x2", "v4:2x2", "v5e:3x4", "v5e:2x1", "v5e:0x2", "h100:16", "h100:2x2", "z9"],
)
def test_an_unknown_target_is_a_usage_error_with_its_value(text):
    with pytest.raises(UsageError, match=f"--target: got {text}, expected .*"):
        parse_target(text)


@pytest.mark.parametrize(
    ("name", "hops"),
    [
        *(("v5e:1x1", 0), ("v5e:2x2", 2), ("v6e:8x8", 14), ("v5e:16x16", 16), ("v5p:4x4x4", 6), ("v4:2x2x1", 2)),
        *(("h100", 0), ("h100:8", 1)),
    ],
)
def test_hops_lead_to_the_farthest_chip_of_a_mesh_or_a_torus(name, hops):
    assert parse_target(name).hops == hops


@pytest.fixture(scope="module")
def summed():
    """Return a program for eight devices that all-reduces 1000 and 24 floats, gathers 16 and permutes 5 per device."""
    mesh = make_mesh(8)

    def body(x, y, z, w):
        gathered = jax.lax.all_gather(z, "data", tiled=True)
        moved = jax.lax.ppermute(w, "data", [(i, (i + 1) % 8) for i in range(8)])
        return jax.lax.psum(x, "data"), jax.lax.psum(y, "data"), gathered, moved

    split, whole = PartitionSpec("data"), PartitionSpec()
    program = jax.shard_map(body, mesh=mesh, in_specs=split, out_specs=(whole, whole, whole, split), check_vma=False)
    shapes = [jax.ShapeDtypeStruct((8 * n,), jnp.float32) for n in (1000, 24, 16, 5)]
    return jax.jit(program).lower(*shapes).compile()


def test_bytes_between_the_chips_are_those_of_the_operands(summed):
    count, operand_bytes, sent_bytes = collectives(summed.as_text(), 8)
    assert count in (3, 4)  # the compiler may combine the two sums
    assert operand_bytes == 4 * (1000 + 24 + 16 + 5)
    assert sent_bytes == pytest.approx(4 * (2 * 7 / 8 * 1024 + 7 * 16 + 5))


def test_work_equals_the_compilers_count(summed):
    costs, work = summed.cost_analysis(), work_of(summed, 0.0, 8)
    assert (work.flops, work.bytes_accessed) == (costs["flops"], costs["bytes accessed"])


def test_an_operation_that_is_divided_into_start_and_done_counts_once():
    text = """
      %x = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} fusion(%p), kind=kLoop
      %start = (bf16[8,128]{1,0}, bf16[32,128]{1,0}) all-gather-start(%x), dimensions={0}
      %done = bf16[32,128]{1,0} all-gather-done(%start)
      ROOT %sum = (bf16[8,128]{1,0:T(8,128)(2,1)}, bf16[8,128]{1,0}) all-reduce(%x, %x), to_apply=%add
    """
    assert collectives(text, 4) == (2, 3 * 2048, 3 * 2048 + 2 * 3 / 4 * 4096)


def test_an_operation_within_groups_of_chips_sends_for_its_group():
    text = """
      %x = f32[256]{0} parameter(0)
      %a = f32[1024]{0} all-gather(%x), replica_groups=[4,4]<=[16], dimensions={0}
      %b = f32[256]{0} all-reduce(%x), replica_groups={{0,1},{2,3}}, to_apply=%add
      %c = f32[256]{0} all-reduce(%x), replica_groups={}, to_apply=%add
    """
    assert collectives(text, 16) == (3, 3 * 1024, 1024 * (3 + 2 * 1 / 2 + 2 * 15 / 16))


def entry(*lines: str) -> str:
    return "\n".join(
        ["%fused (p: f32[9]) -> f32[9] {", "  ROOT %n = f32[9]{0} negate(%p)", "}", "ENTRY %main {", *lines, "}"]
    )


def test_a_fusion_reads_its_operands_and_writes_its_result():
    text = entry(
        "  %p = f32[8,16]{1,0} parameter(0)",
        "  %q = f32[16]{0} parameter(1)",
        "  ROOT %f = (f32[8,16]{1,0}, f32[8]{0}) fusion(%p, %q), kind=kLoop, calls=%fused",
    )
    assert memory_traffic(text) == 4 * ((128 + 16) + (128 + 8))


def test_values_that_stay_in_fast_memory_are_not_traffic():
    text = entry(
        "  %p = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(0)",
        "  %a = bf16[64,128]{1,0:T(8,128)(2,1)S(1)} fusion(%p), kind=kLoop, calls=%fused",
        "  ROOT %b = bf16[64,128]{1,0:T(8,128)(2,1)} fusion(%a), kind=kLoop, calls=%fused",
    )
    assert memory_traffic(text) == 2 * (8192 + 8192)


def test_copying_a_part_into_fast_memory_reads_only_that_part():
    text = entry(
        "  %p = f32[3,128]{1,0:T(1,128)} parameter(0)",
        "  %s = ((f32[3,128]{1,0:T(1,128)}), f32[1,128]{1,0:T(1,128)S(1)}, s32[]{:S(2)}) slice-start(%p)",
        "  %d = f32[1,128]{1,0:T(1,128)S(1)} slice-done(%s)",
        '  %c = f32[3,128]{1,0:T(1,128)S(1)} custom-call(%d, %d, %d), custom_call_target="ConcatBitcast"',
        "  ROOT %r = f32[3,128]{1,0:T(1,128)} fusion(%c), kind=kLoop, calls=%fused",
    )
    assert memory_traffic(text) == 4 * (128 + 384)


@pytest.mark.parametrize(
    ("type", "size"),
    [("f32[]", 4), ("pred[7]{0}", 7), ("(bf16[2,3]{1,0:T(8,128)}, u32[5]{0})", 32), ("f8e4m3fn[9]", 9)],
)
def test_the_size_of_a_type_is_without_padding(type, size):
    assert size_of(type) == size


@pytest.mark.parametrize(
    ("type", "size"),
    [
        ("bf16[3,5]{1,0:T(8,128)(2,1)}", 2 * 8 * 128),
        ("f32[2,9,4]{0,1,2:T(8,128)}", 4 * 4 * 16 * 128),
        ("u8[64]{0:T(1024)(128)(4,1)}", 1024),
        ("f32[3,5]{1,0}", 60),
    ],
)
def test_padding_fills_up_the_tiles_of_the_layout(type, size):
    assert size_of(type, padded=True) == size


def test_an_out_of_memory_error_has_the_needed_and_the_available_bytes():
    full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: in memory space hbm. Used 21.95G of 15.75G hbm. Exceeded")
    early = jax.errors.JaxRuntimeError(
        "the total memory required for HLO temporaries (1.50T) exceeds available HBM (15.75G)."
    )
    assert tpu_refusal(full) == (round(21.95 * 2**30), round(15.75 * 2**30))
    assert tpu_refusal(early) == (round(1.5 * 2**40), round(15.75 * 2**30))


def test_another_error_of_the_compiler_is_raised_again():
    with pytest.raises(jax.errors.JaxRuntimeError, match="vmem"):
        tpu_refusal(jax.errors.JaxRuntimeError("Used 32.42M of 16.00M vmem"))


def test_each_part_of_a_chip_takes_its_work_divided_by_its_rate():
    work = Work(197e12, 0.0, 819_000_000_000 // 2, 3, 1, 200e9 / 4)
    assert seconds_of(work, parse_target("v5e:1x1")) == Seconds(arithmetic=1.0, memory=0.5, network=0.25)


def test_an_operation_between_chips_takes_a_message_across_the_slice():
    work = Work(0.0, 0.0, 0, 40, 0, 0.0)
    times = [seconds_of(work, parse_target(name)).network for name in ("v5e:1x1", "v5e:4x4", "v5e:16x16", "h100:8")]
    assert times == pytest.approx([0, 40 * 6e-6, 40 * 16e-6, 0])


def test_a_host_decodes_with_the_processors_of_its_chips_while_they_compute():
    work, target = Work(197e12 / 8, 0.0, 0, 0, 0, 0.0), parse_target("v5e:4x4")
    seconds = seconds_of(work, target, decoded=28 * 350.0, decode_rate=700.0)
    assert (seconds.chip, seconds.decoding, seconds.step, seconds.bound) == (1 / 8, 1 / 2, 1 / 2, "decoding")


def test_the_slowest_part_bounds_the_step():
    seconds = Seconds(arithmetic=1.0, memory=4.0, network=2.0)
    assert (seconds.step, seconds.bound) == (4.0, "memory")


def test_a_training_takes_its_full_batches_times_the_seconds_of_a_step():
    figures = speed(JOB, 500, Seconds(0.1, 0.2, 0.0), Seconds(0.0, 0.0, 0.0), 4, 3.0)
    assert figures["steps"] == 200 and figures["images_per_second_ceiling"] == 2500
    assert figures["training_seconds"] == pytest.approx(40)
    assert figures["chip_hours"] == pytest.approx(4 * 40 / 3600) and figures["cost"] == pytest.approx(3 * 4 * 40 / 3600)


def test_epochs_with_shrunk_images_have_their_own_seconds_per_step():
    config = replace(JOB.config, augment=AugmentConfig(small_size=16, small_share=0.4))
    epochs, full, small = config.train.epochs, Seconds(0.1, 0.2, 0.0), Seconds(0.05, 0.1, 0.0)
    figures = speed(replace(JOB, config=config), 500, full, small, 1, None)
    early = round(0.4 * epochs)
    assert figures["training_seconds"] == pytest.approx(JOB.images // 500 * (0.1 * early + 0.2 * (epochs - early)))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.1402, "0.14 seconds"),
        (0.0042, "0.0042 seconds"),
        (76.2, "76.20 seconds"),
        (1116.0, "18.6 minutes"),
        (54_000.0, "15.0 hours"),
        (2_592_000.0, "30.0 days"),
    ],
)
def test_a_duration_is_in_seconds_minutes_hours_or_days(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("largest", "sentence"),
    [
        (None, "No batch fits."),
        (1408, "The largest batch that fits is about 1,408."),
        (1432, "Any batch that the 1,437 training images can fill fits."),
    ],
)
def test_the_last_sentence_names_the_largest_batch(largest, sentence):
    figures = {"images": 1437, "largest_batch_size": largest, "largest_possible_batch_size": 1432}
    assert largest_sentence(figures) == sentence


@pytest.mark.parametrize(("fits", "verdict"), [(True, "64 fits: 1.00 GiB"), (False, "does not fit: at least 1.00 GiB")])
def test_the_first_sentence_says_whether_the_asked_batch_fits(fits, verdict):
    figures = {"batch_size": 64, "fits": fits, "memory_bytes": 2**30, "limit_bytes": 2**34}
    assert verdict in memory_sentence(figures, parse_target("v5e:1x1"))


def test_the_report_says_how_many_processors_decode_as_fast_as_the_chips_compute():
    figures = {"needed_cores": 462.4, "host_cores": 224, "decode_rate": 700.0, "images_per_second_of_chips": 323_680.0}
    (sentence,) = decoding_sentences(figures)
    assert "323,680 images/s" in sentence and "462 virtual processors" in sentence and "have about 224" in sentence
    assert decoding_sentences(figures | {"needed_cores": 0.0}) == []


def test_the_report_says_which_share_of_the_chips_time_the_network_takes():
    figures = {"step_seconds": {"network": 0.0005}, "network_share": 0.096}
    assert "at least 0.500 ms, 10% of their time" in network_sentences(figures, parse_target("v5e:4x4"))[0]
    assert "without the operations' latency" in network_sentences(figures, parse_target("h100:8"))[0]
    assert network_sentences(figures, parse_target("v5e:1x1")) == []


class CountingCompiler(Compiler):
    """Takes the place of the compiler of a machine that is not here: memory grows by 10 bytes an image."""

    def __init__(self, limit: int):
        self.job, self.target, self.unit, self.limit_bytes = JOB, parse_target("v5e:1x1"), 1, limit
        self.compiled: list[int] = []
        self.needs = fake_needs(1000, 10, limit, self.compiled)

    def work(self, batch_size: int, *, small: bool = False) -> Work:
        return Work(1e9 * batch_size, 1e6, 1_000_000, 0, 0, 0.0)


@pytest.mark.parametrize("limit", [20_000, 1500])
def test_the_asked_batch_is_answered_before_another_one_is_compiled(limit):
    compiler, seen = CountingCompiler(limit), []
    for part in answers(compiler, None, None):
        seen.append((set(part), set(compiler.compiled)))
    asked = JOB.config.train.batch_size
    (first, of_first), *others = seen
    assert "fits" in first and of_first == {asked}
    if limit == 20_000:
        ((ceiling, of_ceiling), (last, _)) = others
        assert of_ceiling == {asked}
    else:
        ((last, _), (ceiling, _)) = others
    assert "images_per_second_ceiling" in ceiling and "largest_batch_size" in last


def fake_needs(fixed: int, each: int, limit: int, tried: list[int]):
    def needs(size: int) -> Needs:
        tried.append(size)
        return Needs(fixed + each * size, fixed + each * size <= limit)

    return needs


@pytest.mark.parametrize("start", [8, 800, 4000])
def test_the_largest_batch_is_where_the_memory_ends(start):
    tried: list[int] = []
    assert largest_batch(fake_needs(1000, 10, 20_000, tried), 20_000, start, 8, 10**6) == 1896
    assert len(set(tried)) <= 5


def test_the_largest_batch_is_the_data_set_if_it_fits():
    assert largest_batch(fake_needs(1000, 10, 20_000, []), 20_000, 8, 8, 1000) == 1000


def test_no_batch_fits_if_one_image_per_chip_does_not():
    assert largest_batch(fake_needs(30_000, 10, 20_000, []), 20_000, 64, 8, 1000) is None


def test_a_known_data_set_needs_no_further_options():
    held_out = replace(JOB.config, data=DataConfig(name="fashion_mnist", val_fraction=1 / 12))
    job = make_job(held_out, None, None, None, memory_bytes=16 * GIB)
    assert (job.images, job.image_size, job.classes, job.config.model.dtype) == (55_000, 28, 10, "bfloat16")


def test_an_unknown_data_set_names_what_is_missing():
    config = Config(data=DataConfig(name="pets", image_size=224))
    with pytest.raises(UsageError, match="images of pets are not known here; give --images N --classes N"):
        make_job(config, None, None, None, memory_bytes=16 * GIB)


@pytest.mark.parametrize(
    ("recipe", "target", "feed"),
    [
        *(("cifar10", "v5e:1x1", "resident"), ("imagenet", "h100:8", "stream")),
        *(("imagenet64", "v5e:16x16", "stream"), ("imagenet64", "v5p:2x2x1", "resident")),
    ],
)
def test_images_are_on_the_chips_where_a_run_would_have_them_there(recipe, target, feed):
    config = load_config(REPO / "configs" / f"{recipe}.py")
    job = make_job(config, None, None, None, memory_bytes=parse_target(target).memory_bytes)
    assert job.feed == feed


@pytest.mark.skipif(find_spec("libtpu") is not None, reason="libtpu is installed")
def test_a_missing_compiler_names_the_extra():
    with pytest.raises(UserError, match=r"\.\[plan\]"):
        devices_of(parse_target("v5e:2x2"))


@pytest.fixture
def cache_on():
    """Turn the compilation cache on again, which the command turns off."""
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "v5e:5x5", "--arch", "resnet18"), "--target: got v5e:5x5"),
        (("--target", "v5e:4x4"), "--arch"),
        (
            ("--target", "v5e:4x4", "--arch", "resnet18", "--batch-size", "100"),
            "expected a multiple of 16, for example 96",
        ),
        (("--target", "h100:8", "--config", "configs/digits.py", "--batch-size", "1600"), "at most the 1437 training"),
        (("--target", "h100", "--arch", "resnet18", "--batch-size", "1"), "--batch-size: got 1, expected 2 or more"),
        (("--target", "h100", "--arch", "resnet18", "--classes", "0"), "--classes: got 0, expected 1 or more"),
        (("--target", "h100", "--arch", "resnet18", "--price", "-2"), "--price: got -2.0, expected 0 or more"),
        (("--target", "v5e:4x4", "--config", "none.py"), "there is no Python file none.py"),
        (("--target", "v5e:4x4", "--config", "configs/finetune.py"), "give --images N --classes N"),
    ],
)
def test_a_mistake_is_one_message(arguments, message, monkeypatch, cache_on):
    monkeypatch.chdir(REPO)
    with pytest.raises(UsageError, match=re.escape(message)):
        call(["plan", *arguments])


@pytest.fixture
def unchecked():
    """Turn off the run-time type checks, because a state holds shapes instead of arrays here."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.slow  # compiles three steps
def test_resident_streamed_and_ready_images_need_the_same_arithmetic(unchecked):
    job = make_job(narrow(), None, None, None, memory_bytes=16 * GIB)
    resident, streamed, ready = (
        lower(replace(job, feed=it), 64, None, 64).cost_analysis()["flops"] for it in ("resident", "stream", "ready")
    )
    assert resident == pytest.approx(ready, rel=0.02) and streamed == pytest.approx(ready, rel=0.02)


@pytest.mark.slow  # compiles two steps
def test_a_step_of_the_first_epochs_shrinks_its_images_and_needs_less_arithmetic(unchecked):
    config = replace(narrow(), augment=AugmentConfig(small_size=16))
    job = make_job(config, None, None, None, memory_bytes=16 * GIB)
    full, small = (lower(job, 64, None, 64, small=it).cost_analysis()["flops"] for it in (False, True))
    assert 0.2 < small / full < 0.4


@pytest.mark.slow  # lowers two steps
def test_a_published_teacher_is_planned_without_its_weights(unchecked):
    config = replace(narrow(), train=TrainConfig(batch_size=64, teacher="torchvision/resnet18.IMAGENET1K_V1"))
    job = make_job(config, None, None, 1000, memory_bytes=16 * GIB)
    alone = replace(job, config=replace(job.config, train=TrainConfig(batch_size=64)))
    flops = [lower(it, 64, None, 64).cost_analysis()["flops"] for it in (job, alone)]
    assert flops[0] > 2 * flops[1]


def by_hand(width: int, batch_size: int, images: int, target: str) -> jax.stages.Compiled:
    """Compile the training step of CIFAR-10 without `plan`."""
    config = Config(
        model=ModelConfig(width=width, dtype="bfloat16"), train=TrainConfig(epochs=2, batch_size=batch_size)
    )
    mesh = make_mesh(batch_size, devices_of(parse_target(target)))
    model = nnx.eval_shape(lambda: make_model(config, 10, jax.random.key(0)))
    program = make_program(config, model, Shapes(50_000, (32, 32, 3), 10), MEAN, STD)
    state = jax.eval_shape(lambda: program.create_state(make_model(config, 10, jax.random.key(0))))
    data = ResidentData(jnp.zeros((images, 32 * 32 * 3), jnp.uint8), jnp.zeros(images, jnp.int32))
    whole, rows = replicated(mesh), sharded(mesh, axis=1)

    def shapes(tree, sharding):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    arguments = shapes((state, TrainMetrics.zero(), data), whole)
    order = shapes(jnp.zeros((1, batch_size), jnp.int32), rows)
    formats = jax.tree.map(lambda _: Format(Layout.AUTO, whole), state)
    formats = replace(formats, key=whole)
    jitted = jax.jit(
        program.run_steps, donate_argnums=0, in_shardings=(formats, None, None, None), out_shardings=(formats, None)
    )
    return jitted.lower(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state), *arguments[1:], order
    ).compile()


def narrow(**model) -> Config:
    return replace(JOB.config, model=ModelConfig(width=4, **model), train=TrainConfig(epochs=2, batch_size=64))


@pytest.mark.slow
@pytest.mark.parametrize("target", [pytest.param("v5e:2x2", marks=TPU), pytest.param("h100:8", marks=CUDA)])
def test_the_figures_equal_those_of_a_step_compiled_by_hand(target, unchecked):
    compiler = Compiler(make_job(narrow(), None, None, None, memory_bytes=16 * GIB), parse_target(target))
    memory = by_hand(4, 64, 50_000, target).memory_analysis()
    assert compiler.needs(64).memory_bytes == (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
    compiled, work = by_hand(4, 64, 64, target), compiler.work(64)
    costs = compiled.cost_analysis()
    if costs is not None:  # only the compiler for TPUs has them
        assert (work.flops, work.bytes_accessed) == (costs["flops"], costs["bytes accessed"])
    assert work.collectives == compiled.as_text().count(" all-reduce(") + compiled.as_text().count(" all-reduce-start(")


HOLDING = """
from resnet_jax.planning.targets import devices_of, parse_target

print(len(devices_of(parse_target("v5e:2x2"))), flush=True)
input()
"""


@TPU
def test_two_processes_can_use_the_tpu_compiler_at_once():
    pipe = subprocess.PIPE
    held = [subprocess.Popen([sys.executable, "-c", HOLDING], stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    assert [process.stdout.readline() for process in held] == ["4\n", "4\n"]
    for process in held:
        process.communicate("\n")


@pytest.mark.slow
@TPU
def test_a_resident_data_set_is_stored_on_a_tpu_once_and_with_little_padding(unchecked):
    def bytes_with(images: int) -> int:
        memory = by_hand(4, 64, images, "v5e:2x2").memory_analysis()
        return memory.argument_size_in_bytes + memory.temp_size_in_bytes

    image_and_label = 32 * 32 * 3 + 4
    assert bytes_with(50_000) - bytes_with(10_000) == pytest.approx(40_000 * image_and_label, rel=0.01)


@pytest.mark.slow
@TPU
def test_traffic_equals_the_compilers_count_if_fast_memory_is_not_used(unchecked):
    compiler = ready_batches("v5e:1x1")
    lowered = lower(compiler.job, 64, compiler.mesh, 64)
    compiled = lowered.compile(compiler_options={"xla_msa_enable": False})
    assert memory_traffic(compiled.as_text()) == pytest.approx(compiled.cost_analysis()["bytes accessed"], rel=0.02)


def ready_batches(target: str) -> Compiler:
    config = Config(model=ModelConfig(width=4, stem="imagenet"))
    return Compiler(make_job(config, 10**7, 64, 10, memory_bytes=16 * GIB, ready=True), parse_target(target))


@pytest.mark.slow
@TPU
def test_a_batch_below_a_tpus_limit_fits_and_one_above_does_not(unchecked):
    compiler = ready_batches("v5e:1x1")
    assert compiler.limit_bytes == round(15.75 * 2**30)
    assert compiler.needs(163_840).fits and compiler.needs(163_840).memory_bytes > 0.9 * compiler.limit_bytes
    assert not compiler.needs(196_608).fits and compiler.needs(196_608).memory_bytes < 1.1 * compiler.limit_bytes


@pytest.mark.slow
@CUDA
def test_the_largest_batch_nearly_fills_a_gpu_and_eight_times_as_much_does_not_fit(unchecked):
    compiler = ready_batches("h100")
    largest = largest_batch(compiler.needs, compiler.limit_bytes, 1024, 8, 10**7)
    assert compiler.needs(largest).fits and compiler.needs(largest).memory_bytes > 0.9 * compiler.limit_bytes
    assert not compiler.needs(8 * largest).fits


@pytest.mark.slow
@CUDA
def test_a_step_that_shrinks_images_compiles_without_a_gpu_to_tune_it_on(unchecked):
    data, crops = DataConfig(name="imagenet2012", image_size=192), AugmentConfig(crop_scale=0.1, small_size=160)
    config = replace(narrow(stem="imagenet"), data=data, augment=crops)
    compiler = Compiler(make_job(config, None, None, None, memory_bytes=GIB), parse_target("h100"))
    assert compiler.work(64, small=True).traffic_bytes > 64 * (192 * 192 * 3 + 160 * 160 * 3)
