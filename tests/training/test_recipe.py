from __future__ import annotations

from pathlib import Path

import pytest

from training.errors import RecipeError
from training.recipe import Recipe, builtin_recipes, load_recipe, make_recipe


def test_the_recipes_that_ship() -> None:
    assert builtin_recipes() == ["cpu", "explain", "gpu-lora", "gpu-qlora", "pretrained"]


@pytest.mark.parametrize("name", ["cpu", "explain", "gpu-lora", "gpu-qlora", "pretrained"])
def test_a_recipe_loads_and_survives_yaml(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    file = tmp_path / "again.yaml"
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(str(file)) == recipe


def test_every_field_is_documented() -> None:
    assert all(field.description for field in Recipe.model_fields.values())


def test_all_problems_are_reported_at_once() -> None:
    values = {
        "bass": "starter", "learning_rate": -1, "epochs": "many", "layers": 2, "train_layers": 3,
        "quantisation": "4bit", "precision": "fp32", "max_tokens": 1024, "batch_tokens": 512,
    }  # fmt: skip
    with pytest.raises(RecipeError) as caught:
        make_recipe(values)
    text = str(caught.value)
    for part in (
        "unknown key 'bass', did you mean 'base'?",
        "learning_rate is -1",
        "epochs is 'many'",
        "train_layers=3 is more than layers=2",
        "precision=fp32 contradicts",
        "batch_tokens=512 is less than max_tokens=1024",
    ):
        assert part in text
    assert len(caught.value.problems) == 6


def test_changes_are_read_as_yaml_and_checked() -> None:
    recipe = load_recipe("pretrained", ["epochs=2", "base=./mine", "gradient_checkpointing=true", "max_minutes=null"])
    assert (recipe.epochs, recipe.base, recipe.gradient_checkpointing, recipe.max_minutes) == (2, "./mine", True, None)
    with pytest.raises(RecipeError, match="expected key=value; unknown key 'epoch', did you mean 'epochs'"):
        load_recipe("pretrained", ["nothing", "epoch=2"])


@pytest.mark.parametrize(
    ("text", "message"), [("- a\n", "holds list"), ("a: [", "not valid YAML"), ("", "holds NoneType")]
)
def test_a_broken_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        load_recipe(str(file))


def test_no_such_recipe() -> None:
    with pytest.raises(RecipeError, match=r"there is no recipe 'gpu'; give a .yaml file or one of: cpu, explain"):
        load_recipe("gpu")
    with pytest.raises(RecipeError, match=r"cannot read the recipe nope\.yaml"):
        load_recipe("nope.yaml")
