"""The configuration: recipes, the command line's help, validation, comparison."""

import dataclasses
import inspect
import json
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from resnet_jax import config as module
from resnet_jax.config import (
    AugmentConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    as_dict,
    differences,
    from_dict,
)
from resnet_jax.errors import UsageError
from resnet_jax.recipe import load_config

REPO = Path(__file__).parent.parent
RECIPES = sorted((REPO / "configs").glob("*.py"))
SECTIONS = {field.name: type(getattr(Config(), field.name)) for field in dataclasses.fields(Config)}


@pytest.fixture
def help_text(monkeypatch, capsys):
    """Return a function that returns what `python train.py --config PATH --help` prints, in one line without frames."""

    def show(path: Path) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(path), "--help"])
        monkeypatch.setenv("COLUMNS", "1000")
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(REPO / "train.py"), run_name="__main__")
        assert end.value.code == 0
        return " ".join(capsys.readouterr().out.replace("│", " ").split())

    return show


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_a_valid_configuration(path):
    assert isinstance(load_config(path), Config)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_names_its_command(path):
    assert f"python train.py --config configs/{path.name}" in path.read_text()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_help_of_a_recipe_lists_every_field_with_its_docstring(path, help_text):
    text, source = help_text(path), inspect.getsource(module)
    for section, kind in SECTIONS.items():
        for field in dataclasses.fields(kind):
            assert re.search(rf"--{section}\.{field.name.replace('_', '-')}[ ,]", text)
            docstring = source.split(f"class {kind.__name__}:")[1].split(f"    {field.name}: ")[1].split('"""')[1]
            assert docstring.strip('"') in text, field.name


def test_the_dictionary_is_complete_and_survives_json():
    config = Config(data=DataConfig(dir=Path("images")))
    values = as_dict(config)
    assert json.loads(json.dumps(values)) == values
    assert {section: set(fields) for section, fields in values.items()} == {
        section: {field.name for field in dataclasses.fields(kind)} for section, kind in SECTIONS.items()
    }
    assert values["data"]["dir"] == "images"


def test_equal_configurations_have_no_differences():
    assert differences(as_dict(Config()), as_dict(Config())) == []


def test_differences_name_each_changed_field_with_both_values():
    new = Config(model=ModelConfig(width=16), train=TrainConfig(epochs=3))
    assert differences(as_dict(Config()), as_dict(new)) == ["model.width: 64 -> 16", "train.epochs: 20 -> 3"]


def test_a_field_that_only_one_configuration_has_is_a_difference():
    old = as_dict(Config())
    del old["train"]["ema_decay"]
    assert differences(old, as_dict(Config())) == ["train.ema_decay: absent -> None"]


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        (ModelConfig, "width", 0),
        (ModelConfig, "drop_path", 1.0),
        (DataConfig, "image_size", 0),
        (DataConfig, "val_fraction", 0.0),
        (DataConfig, "val_fraction", 1.0),
        (AugmentConfig, "crop_padding", 0),
        (AugmentConfig, "cutout", 0),
        (AugmentConfig, "rand_augment", 31),
        (AugmentConfig, "erasing", 0.0),
        (AugmentConfig, "mixup", 0.0),
        (AugmentConfig, "cutmix", 0.0),
        (AugmentConfig, "small_size", 0),
        (AugmentConfig, "small_share", 1.0),
        (OptimizerConfig, "peak_learning_rate", 0.0),
        (OptimizerConfig, "peak_learning_rate", float("nan")),
        (OptimizerConfig, "warmup", 1.0),
        (OptimizerConfig, "initial_factor", 1.5),
        (OptimizerConfig, "momentum", 1.0),
        (OptimizerConfig, "weight_decay", -1e-4),
        (OptimizerConfig, "clip_norm", 0.0),
        (TrainConfig, "epochs", 0),
        (TrainConfig, "batch_size", 1),
        (TrainConfig, "label_smoothing", 1.0),
        (TrainConfig, "ema_decay", 1.0),
        (TrainConfig, "distillation_weight", 0.0),
        (TrainConfig, "temperature", 0.0),
        (EvaluateConfig, "every_epochs", 0),
        (EvaluateConfig, "batch_size", 0),
        (CheckpointConfig, "every_epochs", 0),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_name_of_its_option(section, field, value):
    name = next(name for name, kind in SECTIONS.items() if kind is section)
    with pytest.raises(UsageError, match=rf"--{name}\.{field.replace('_', '-')}: got {value}, expected "):
        section(**{field: value})


def test_a_folder_needs_a_path():
    with pytest.raises(UsageError, match=r"--data\.dir"):
        DataConfig(source="folder")


def test_a_configuration_of_an_older_version_has_the_defaults_of_absent_fields():
    old = as_dict(Config(model=ModelConfig(width=16)))
    del old["train"]["ema_decay"], old["checkpoint"]
    assert from_dict(old) == Config(model=ModelConfig(width=16))


def test_a_configuration_is_the_same_after_a_round_trip_through_json():
    config = Config(data=DataConfig(dir=Path("/images")), train=TrainConfig(epochs=3))
    assert from_dict(json.loads(json.dumps(as_dict(config)))) == config


def test_an_unknown_field_is_refused_with_its_name():
    with pytest.raises(UsageError, match=r"train\.batch_sise"):
        from_dict({"train": {"batch_sise": 3}})


def test_the_configuration_of_a_run_can_be_used_as_a_recipe(tmp_path):
    config = Config(data=DataConfig(name="cifar10"), train=TrainConfig(epochs=3))
    (tmp_path / "config.json").write_text(json.dumps(as_dict(config)))
    assert load_config(tmp_path / "config.json") == config


@pytest.mark.parametrize("content", ["{", "[]", '{"train": 3}', '{"train": {"epochs": "three"}}'])
def test_a_damaged_configuration_of_a_run_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UsageError, match=r"config\.json"):
        load_config(tmp_path / "config.json")


def test_a_recipe_of_the_package_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("configs/digits.py")).data.name == "digits"


def test_a_recipe_imports_its_own_neighbors_from_any_folder_and_leaves_none_of_them_behind(tmp_path, monkeypatch):
    """Neighbors of the same name; the second recipe is given by a path relative to another folder."""
    for epochs, name in ((11, "one"), (22, "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "base.py").write_text(
            f"from resnet_jax.config import Config, TrainConfig\nEPOCHS = {epochs}\n"
            "def get_config():\n    return Config(train=TrainConfig(epochs=EPOCHS))\n"
        )
        (tmp_path / name / "recipe.py").write_text("from base import get_config\n")
    elsewhere = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "base", elsewhere)
    monkeypatch.chdir(tmp_path / "one")
    path, names = list(sys.path), sys.modules.keys() - {"base"}
    assert load_config(tmp_path / "one" / "recipe.py").train.epochs == 11
    assert load_config(Path("../two/recipe.py")).train.epochs == 22
    assert sys.path == path and sys.modules["base"] is elsewhere and sys.modules.keys() - {"base"} == names
