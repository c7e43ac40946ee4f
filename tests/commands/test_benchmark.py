"""The figures of `resnet-jax benchmark` are consistent with each other; no test asserts a speed."""

import contextlib
import csv
import io
import json
import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental.compilation_cache import compilation_cache
from jax.profiler import ProfileData

import resnet_jax
import resnet_jax.benchmarking.measure as measure_module
from resnet_jax.benchmarking import profile, timm_csv, torch_peer, workload
from resnet_jax.benchmarking.measure import measure
from resnet_jax.benchmarking.profile import UnreadableTraceError, described, longest_operations, read_trace
from resnet_jax.benchmarking.report import print_figures
from resnet_jax.benchmarking.sweep import sweep
from resnet_jax.commands.benchmark import benchmark
from resnet_jax.config import Config, ModelConfig
from resnet_jax.errors import UsageError, UserError
from resnet_jax.hardware.flops import Cost, cost_of
from resnet_jax.hardware.sharding import make_mesh
from resnet_jax.models.network import Network
from resnet_jax.models.registry import REGISTRY
from resnet_jax.training.model import make_model
from resnet_jax.weights.torchvision import assign, to_torchvision

TINY = {"width": 4, "image_size": 8, "batch_size": 16}


@pytest.fixture(scope="module", autouse=True)
def settled():
    """Use two devices and short repeats, and restore the compilation cache afterwards."""
    assert jax.device_count() == 8  # starts JAX; after that, a command does not change the number of devices
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workload, "make_mesh", lambda batch_size: make_mesh(batch_size, jax.devices()[:2]))
        patch.setattr(measure_module, "REPEAT_SECONDS", 0.1)
        yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


def forward_cost(network, image_size: int) -> Cost:
    model = nnx.eval_shape(lambda: network(rngs=nnx.Rngs(0)))
    graphdef, *weights = nnx.split(model, nnx.Param, nnx.BatchStat)
    image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    return cost_of(lambda images, *weights: nnx.merge(graphdef, *weights, copy=True)(images), image, *weights)


@pytest.mark.parametrize(
    ("network", "image_size", "published"),
    [
        (partial(resnet_jax.ResNet18, num_classes=10, stem="cifar"), 32, 0.555e9),
        (resnet_jax.ResNet18, 224, 1.814e9),
        (resnet_jax.ResNet50, 224, 4.089e9),
    ],
)
def test_the_multiply_adds_are_the_published_ones(network, image_size, published):
    assert forward_cost(network, image_size).multiply_adds == pytest.approx(published, rel=1e-3)


def test_the_activations_are_those_that_timm_publishes():
    assert round(forward_cost(resnet_jax.ResNet18, 224).activations / 1e6, 2) == 2.48


def test_the_cost_of_a_loop_is_that_of_all_its_iterations():
    def looped(x):
        return jax.lax.scan(lambda carry, _: (carry @ x, None), x, None, length=5)[0]

    square = jax.ShapeDtypeStruct((3, 3), jnp.float32)
    assert cost_of(looped, square) == (5 * 27, 5 * 9)


class Clock:
    """A clock that advances only by work, so that its seconds are exact."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def work(self, seconds: float, *, by: int = 1):
        """Return work that takes `seconds` per step and does `by` steps at a time."""

        def take(steps: int) -> int:
            taken = by * math.ceil(steps / by)
            self.now += taken * seconds
            return taken

        return take


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(measure_module, "time", clock)
    return clock


@pytest.mark.parametrize("seconds", [1e-6, 0.003, 0.2, 7.0])
def test_a_repeat_lasts_half_a_second_or_one_step(clock, seconds, monkeypatch):
    monkeypatch.setattr(measure_module, "REPEAT_SECONDS", 0.5)
    timing = measure({"work": clock.work(seconds)}, repeats=3)["work"]
    assert timing.seconds == pytest.approx([seconds] * 3)
    assert timing.steps == 1 or 0.4 <= timing.steps * seconds <= 0.7


def test_the_first_step_which_compiles_does_not_count(clock):
    work, waited = clock.work(0.01), iter([100.0])

    def slow_at_first(steps: int) -> int:
        clock.now += next(waited, 0.0)
        return work(steps)

    assert measure({"work": slow_at_first}, repeats=2)["work"].seconds == pytest.approx([0.01] * 2)


def test_pieces_of_work_alternate_and_begin_with_a_step_that_is_not_timed(clock):
    calls = []

    def work(name: str, steps: int) -> int:
        calls.append(name)
        clock.now += steps
        return steps

    measure({name: partial(work, name) for name in "ab"}, repeats=3)
    assert calls[-12:] == ["a", "a", "b", "b"] * 3


def test_work_that_does_more_steps_than_requested_is_divided_by_the_steps_it_did(clock):
    timing = measure({"tens": clock.work(0.06, by=10)}, repeats=1)["tens"]
    assert timing.steps == 10 and timing.seconds == pytest.approx([0.06])


def test_the_sweep_doubles_the_batch_until_the_speed_no_longer_grows(clock):
    speeds = sweep(lambda size: clock.work(max(size, 128) / 1000), smallest=32, repeats=2)
    assert speeds == pytest.approx({32: 250, 64: 500, 128: 1000, 256: 1000})


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: out of memory")])
def test_the_sweep_ends_when_memory_is_exhausted(clock, error):
    def train_of(size: int):
        if size > 64:
            raise error
        return clock.work(0.5)

    assert sweep(train_of, smallest=32, repeats=1) == pytest.approx({32: 64, 64: 128})


def test_the_sweep_does_not_hide_an_error():
    def train_of(size: int):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        sweep(train_of, smallest=32, repeats=1)


def write_trace(path: Path, plane: str, line: str, events: str, names: dict[int, str], stat: str = "") -> Path:
    metadata = "".join(f'event_metadata {{ key: {k} value {{ id: {k} name: "{v}" }} }} ' for k, v in names.items())
    text = f"""planes {{ name: "{plane}" {metadata} lines {{ name: "{line}" {events} }}
        stat_metadata {{ key: 1 value {{ id: 1 name: "{stat}" }} }} }}"""
    path.write_bytes(ProfileData.text_proto_to_serialized_xspace(text))
    return path


def event(name: int, start: int, duration: int, stat: str = "") -> str:
    value = f'stats {{ metadata_id: 1 str_value: "{stat}" }}' if stat else ""
    return f"events {{ metadata_id: {name} offset_ps: {start}000000 duration_ps: {duration}000000 {value} }} "


def test_the_time_of_an_operation_excludes_the_operations_inside_it(tmp_path):
    events = event(1, 0, 100) + event(2, 10, 30) + event(2, 50, 20) + event(2, 100, 5)
    names = {1: "%while.3 = (f32[]) while(...)", 2: "%fusion.7 = f32[8] fusion(...)"}
    file = write_trace(tmp_path / "xplane.pb", "/device:TPU:0", "XLA Ops", events, names)
    assert read_trace(file) == pytest.approx({"while.3": 50e-6, "fusion.7": 55e-6})


def test_a_fusion_without_a_source_has_the_sources_of_its_parts():
    program = """HloModule jit_step
%fused_computation.1 (param_0: f32[8]) -> f32[8] {
  %param_0 = f32[8]{0} parameter(0)
  %sine.1 = f32[8]{0} sine(%param_0), metadata={op_name="jit(step)/sin" stack_frame_id=1}
  ROOT %cosine.1 = f32[8]{0} cosine(%sine.1), metadata={op_name="jit(step)/cos" stack_frame_id=1}
}
ENTRY %main (x: f32[8]) -> f32[4] {
  %x = f32[8]{0} parameter(0), metadata={op_name="x"}
  %loop_fusion = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused_computation.1
  ROOT %slice.2 = f32[4]{0} slice(%loop_fusion), slice={[0:4]}, metadata={op_name="jit(step)/slice"}
}"""
    operations = described(program)
    assert operations["loop_fusion"] == ("f32[8]", "sin:cos") and operations["slice.2"] == ("f32[4]", "slice")


def test_the_time_of_a_gpu_kernel_is_that_of_its_operation(tmp_path):
    events = event(1, 0, 7, "convolution.1") + event(1, 7, 2, "convolution.2") + event(2, 9, 50)
    names = {1: "cudnn::kernel", 2: "memset"}
    file = write_trace(tmp_path / "xplane.pb", "/device:GPU:0", "Stream #7(Compute)", events, names, "hlo_op")
    assert read_trace(file) == pytest.approx({"convolution.1": 7e-6, "convolution.2": 2e-6})


def test_a_damaged_trace_is_unreadable(tmp_path):
    (tmp_path / "xplane.pb").write_bytes(b"damaged")
    with pytest.raises(UnreadableTraceError, match="parse"):
        read_trace(tmp_path / "xplane.pb")


def test_a_folder_without_a_trace_is_unreadable(tmp_path):
    with pytest.raises(UnreadableTraceError, match="no trace"):
        longest_operations(tmp_path, "", executions=1)


@pytest.mark.parametrize(
    ("reader", "reason"), [("import os; os.abort()", "status -6"), ("import time; time.sleep(60)", "0.5 s")]
)
def test_a_reader_that_crashes_or_hangs_makes_a_trace_unreadable(tmp_path, monkeypatch, reader, reason):
    (tmp_path / "reader.py").write_text(reader)
    monkeypatch.setattr(profile, "READER", tmp_path / "reader.py")
    monkeypatch.setattr(profile, "READER_SECONDS", 0.5 if "sleep" in reader else 60)
    with pytest.raises(UnreadableTraceError, match=reason):
        read_trace(tmp_path / "xplane.pb")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="module")
def figures(folder):
    """Return the JSON object of a tiny benchmark with a trace and a CSV file."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        benchmark(**TINY, repeats=2, profile=folder / "trace", csv=folder / "timm.csv", json=True)
    return json.loads(out.getvalue())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forward", "train", "input", "end_to_end"])
def test_images_per_second_are_the_batch_size_divided_by_the_seconds_of_a_step(figures, name):
    speed, (low, high) = figures[f"{name}_images_per_second"], figures[f"{name}_images_per_second_range"]
    assert speed == pytest.approx(16 / figures[f"{name}_step_seconds"]) and 0 < low <= speed <= high


@pytest.mark.slow
def test_a_multiply_add_is_two_operations_and_a_training_step_three_forward_passes(figures):
    assert figures["multiply_adds_per_image"] == cost_of_tiny().multiply_adds
    for name, factor in (("forward", 2), ("train", 6), ("end_to_end", 6)):
        expected = factor * figures["multiply_adds_per_image"] * figures[f"{name}_images_per_second"]
        assert figures[f"{name}_flops_per_second"] == pytest.approx(expected)


def cost_of_tiny() -> Cost:
    return forward_cost(partial(resnet_jax.ResNet18, num_classes=10, stem="cifar", width=4), 8)


@pytest.mark.slow
def test_a_cpu_has_no_share_of_peak(figures):
    assert figures["train_peak_share"] is None and figures["bfloat16_peak_flops_per_second"] is None


@pytest.mark.slow
def test_the_shares_of_time_are_from_0_to_1(figures):
    assert all(0 <= figures[f"{name}_share"] < 1 for name in ("waiting_for_data", "outside_step"))
    assert all(0 < each["share"] <= 1 for each in figures["operations"])


@pytest.mark.slow
def test_the_training_steps_memory_holds_at_least_weights_momentum_and_batch(figures):
    batch = 16 * 8 * 8 * 3 / figures["devices"]
    assert figures["step_memory_bytes"] >= 4 * (2 * figures["parameters"] + batch)


@pytest.mark.slow
def test_the_trace_names_ten_operations_of_the_training_step(figures, folder):
    operations = figures["operations"]
    assert len(operations) == 10 and list((folder / "trace").rglob("*.xplane.pb"))
    seconds = [each["seconds"] for each in operations]
    assert seconds == sorted(seconds, reverse=True) and sum(each["share"] for each in operations) <= 1
    assert all(each["output"] for each in operations) and any(
        "conv_general_dilated" in it["source"] for it in operations
    )


@pytest.mark.slow
def test_an_unreadable_trace_leaves_out_only_the_list_of_operations(tmp_path, monkeypatch, capsys):
    (tmp_path / "reader.py").write_text("import os; os.abort()")
    monkeypatch.setattr(profile, "READER", tmp_path / "reader.py")
    benchmark(**TINY, repeats=1, profile=tmp_path / "trace", json=True)
    figures = json.loads(capsys.readouterr().out)
    assert figures["operations"] == [] and figures["train_images_per_second"] > 0
    print_figures(figures)
    out = capsys.readouterr().out
    assert str(tmp_path / "trace") in out and figures["operations_failure"] in out


@pytest.mark.slow
def test_a_csv_row_has_timms_columns_and_the_figures(figures, folder):
    with (folder / "timm.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == timm_csv.COLUMNS and row["model"] == "resnet18" and row["param_count"] == "0.04"
    assert float(row["train_samples_per_sec"]) == pytest.approx(figures["train_images_per_second"], abs=0.01)
    assert float(row["infer_step_time"]) == pytest.approx(1000 * figures["forward_step_seconds"], abs=0.001)


@pytest.mark.slow
def test_a_second_row_goes_below_the_first(figures, folder, tmp_path):
    path = tmp_path / "timm.csv"
    for _ in range(2):
        timm_csv.check_csv(path)
        timm_csv.add_to_csv(path, figures)
    header, *rows = path.read_text().splitlines()
    assert rows == [rows[0]] * 2 and (folder / "timm.csv").read_text().splitlines() == [header, rows[0]]


@pytest.mark.slow
def test_the_table_says_that_the_peak_is_unknown(figures, capsys):
    print_figures(figures)
    out = " ".join(capsys.readouterr().out.split())
    assert "share of peak: unknown" in out and "cpu" in out and "end to end" in out


@pytest.mark.slow
def test_the_table_has_the_share_of_peak_if_the_chip_is_known(figures, capsys):
    known = {"bfloat16_peak_flops_per_second": 197e12, "train_peak_share": 0.421, "peak_memory_bytes": 3_000_000_000}
    print_figures(figures | known)
    out = capsys.readouterr().out
    assert "197 TFLOP/s" in out and "42.1%" in out and "3,000 MB" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "--repeats: got 0, expected 1 or more"),
        ({"batch_size": 1}, "--batch-size: got 1, expected 2 or more"),
        ({"image_size": 0}, "--image-size: got 0"),
        ({"width": 0}, "--width: got 0"),
        ({"arch": "resnext50_32x4d", "width": 3, "batch_size": 16}, "--width: got 3 with resnext50_32x4d"),
        (
            {"batch_size": 13},
            "--batch-size: got 13 for 2 devices",
        ),
    ],
)
def test_a_value_out_of_range_names_the_option_of_this_command(options, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        benchmark(**options)


def test_a_csv_file_with_other_columns_is_not_changed(tmp_path):
    (tmp_path / "other.csv").write_text("model,accuracy\n")
    with pytest.raises(UserError, match="has other columns, model,accuracy"):
        benchmark(csv=tmp_path / "other.csv")
    assert (tmp_path / "other.csv").read_text() == "model,accuracy\n"


@pytest.mark.parametrize("option", ["csv", "profile"])
def test_an_output_that_cannot_be_written_is_an_error_before_the_measurement(tmp_path, option):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"can't write .*file/below .*: give another --{option}"):
        benchmark(**{option: tmp_path / "file" / "below"})


@pytest.mark.slow
@pytest.mark.parametrize("width", [50, 80])
def test_no_figure_is_cut_in_a_narrow_terminal(figures, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    print_figures(figures)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(" ")]
    assert max(map(len, rows)) <= width and "…" not in "".join(rows)


@pytest.mark.slow
def test_auto_takes_the_batch_that_trained_fastest_in_the_sweep(capsys, monkeypatch):
    monkeypatch.setattr(
        "resnet_jax.benchmarking.sweep.GAIN", 2.5
    )  # no doubling gains as much, so that the sweep ends after two batches
    benchmark(**TINY | {"batch_size": "auto"}, repeats=1, json=True)
    figures = json.loads(capsys.readouterr().out)
    speeds = {each["batch_size"]: each["train_images_per_second"] for each in figures["sweep"]}
    assert len(speeds) >= 2 and figures["batch_size"] == max(speeds, key=speeds.__getitem__)
    print_figures(figures)
    assert "training images/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("device", "devices", "message"),
    [("tpu", 4, "got JAX on tpu"), ("gpu", 2, "got 2 GPUs, expected one: set CUDA_VISIBLE_DEVICES=0")],
)
@pytest.mark.parity
def test_pytorch_is_compared_only_where_it_can_run(device, devices, message):
    pytest.importorskip("torchvision")
    with pytest.raises(UserError, match=message):
        torch_peer.check(device, devices)


@pytest.mark.parity
@pytest.mark.parametrize(("arch", "stem", "width"), [("resnet18", "cifar", 16), ("resnext50_32x4d", "imagenet", 32)])
def test_the_network_of_pytorch_has_our_shapes(arch, stem, width):
    pytest.importorskip("torchvision")
    network = ModelConfig(arch, stem, width, dtype="float32")
    ours = make_model(Config(model=network), 10, jax.random.key(0))
    theirs = torch_peer.make_network(network, 10)
    expected = {key: value.shape for key, value in to_torchvision(ours).items()}
    assert {key: tuple(value.shape) for key, value in theirs.state_dict().items()} == expected


@pytest.mark.parity
@pytest.mark.parametrize(
    "arch",
    [name for name, it in REGISTRY.items() if it.family != "resnet" and it.torchvision and name != "vgg16_bn"],
)
def test_the_network_of_pytorch_has_our_small_stem(arch):
    torch = pytest.importorskip("torch")
    theirs = torch_peer.make_network(ModelConfig(arch, "cifar", dtype="float32"), 10).eval()
    ours = Network(arch, 10, "cifar").abstract()
    assign(ours, {key: value.numpy() for key, value in theirs.state_dict().items()})
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = theirs(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    logits = nnx.jit(lambda model: model(images, train=False))(ours)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_a_network_that_torchvision_lacks_is_not_compared():
    pytest.importorskip("torchvision")
    with pytest.raises(UserError, match="torchvision does not have resnet18d"):
        torch_peer.make_network(ModelConfig("resnet18d"), 10)


@pytest.mark.parity
def test_the_ratio_is_that_of_the_images_per_second(capsys):
    pytest.importorskip("torchvision")
    benchmark(**TINY, repeats=1, against="torch", json=True)
    figures = json.loads(capsys.readouterr().out)
    for name in ("forward", "train"):
        speeds = figures[f"{name}_images_per_second"], figures[f"torch_{name}_images_per_second"]
        assert figures[f"{name}_ratio"] == pytest.approx(speeds[0] / speeds[1])
    print_figures(figures)
    assert f"times as fast as PyTorch {figures['torch_version']}" in capsys.readouterr().out
