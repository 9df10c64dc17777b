"""Runs that follow the laws of a recipe: their numbers, what is told, and errors."""

import copy
import json

import pytest
from etils import epath
from test_recipe_law import make_sweep

from scalepred import config, grid, study
from scalepred.arms import run as arms
from scalepred.commands.recipe import describe
from scalepred.config import UserError
from scalepred.data import digits
from scalepred.fill import open_table
from scalepred.fitting.recipe import fit_sweep, read_sweeps
from scalepred.forecasting import recipes
from scalepred.forecasting.parts import prepare
from scalepred.grid import read_programs
from scalepred.recipe import KIND
from scalepred.table.rows import Table


@pytest.fixture(scope="module")
def record():
    """A recipe.json of a sweep from 10,000 to 1M parameters, 100,000 to 10M images."""
    law = fit_sweep(make_sweep()._replace(data_unit="images"))
    return {"kind": KIND, "laws": {"learning_rate": describe(law, [], [])}}


def write(folder, record) -> str:
    """The path of the folder that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps(record))
    return str(folder)


def small_study(recipe: str, **changes) -> config.Experiment:
    """Four runs on the digits, far below the sweep."""
    return config.Experiment(
        name="small",
        grid=config.Grid(widths=(4, 16), data_fractions=(0.25, 1.0)),
        training=config.Training(steps=3, recipe=recipe, **changes),
    )


def batch_law(record, base: float) -> dict:
    """The same recipe with a law of the batch, the square root of the data."""
    changed = copy.deepcopy(record)
    law = copy.deepcopy(record["laws"]["learning_rate"])
    law["rule"] = {"base": base, "factor": "(data / 1000)**0.5"}
    changed["laws"]["batch_size"] = law
    return changed


def test_every_cell_has_the_number_that_the_rule_would_give_it(tmp_path, record):
    path = write(tmp_path, record)
    found = prepare(small_study(path), epath.Path(tmp_path / "work"))
    law = record["laws"]["learning_rate"]
    by_hand = small_study("")
    by_hand.training.learning_rate = law["rule"]["base"]
    by_hand.training.learning_rate_rule = law["rule"]["factor"]
    cells = grid.make_cells(by_hand, found.dataset)
    assert [cell.cell_id for cell in found.parts.evidence] == [
        cell.cell_id for cell in cells
    ]
    powers = {name: one["value"] for name, one in law["exponents"].items()}
    small, large = found.parts.evidence[0], found.parts.evidence[-1]
    ratio = 1.0
    for name, power in powers.items():
        sizes = (getattr(found.size_of(cell), name) for cell in (large, small))
        large_size, small_size = sizes
        ratio *= (large_size / small_size) ** power
    expected = pytest.approx(ratio, rel=0.01)
    assert large.learning_rate / small.learning_rate == expected


def test_a_file_does_as_well_as_its_folder_and_nothing_is_changed(tmp_path, record):
    path = write(tmp_path, record)
    asked = small_study(path)
    before = copy.deepcopy(asked)
    of_folder = recipes.follow(asked)
    assert asked == before
    of_file = recipes.follow(small_study(f"{path}/recipe.json"))
    assert of_file.training.learning_rate == of_folder.training.learning_rate
    assert recipes.follow(small_study("")) == small_study("")


@pytest.mark.parametrize("base", [24.4, 1.4])
def test_a_law_of_the_batch_is_rounded_once(tmp_path, record, base):
    path = write(tmp_path, batch_law(record, base))
    found = recipes.follow(small_study(path))
    for cell in grid.make_cells(found, digits.load()):
        exact = base * (cell.dataset_size / 1000) ** 0.5
        assert cell.batch_size == pytest.approx(exact, abs=0.51)
        assert cell.micro_batch_size == 0


def test_runs_beyond_the_sweep_and_its_edges_are_told(tmp_path, record):
    changed = copy.deepcopy(record)
    law = changed["laws"]["learning_rate"]
    sizes = law["bottoms"][0]["sizes"]
    law["edges"] = [
        {"sizes": sizes, "side": side, "tried": 0.1} for side in ("below", "above")
    ]
    found = prepare(small_study(write(tmp_path, changed)), epath.Path(tmp_path / "w"))
    (said,), (beyond, edge) = found.describe_recipe()
    assert said.startswith("learning rate = ")
    assert "(9 sizes)" in said
    assert "in the 4 runs of this study" in said
    assert "4 of the 4 runs lie beyond the sweep that gave the law" in beyond
    assert "images, where the sweep has 100,000 to 10M" in beyond
    assert "at 1 of the 9 sizes" in edge
    inside = [(2e4, 2e5), (1e6, 1e7)]
    cells = found.parts.evidence[:2]
    training = found.experiment.training
    _, warned = recipes.describe(training, cells, inside, "images")
    assert warned == [edge]


def test_training_that_is_not_the_sweeps_is_told(tmp_path):
    program = "digits/mlp/width4/depth2/batch32/adam/linear/clip"
    law = fit_sweep(make_sweep()._replace(data_unit="images", programs=(program, "x")))
    record = {"kind": KIND, "laws": {"learning_rate": describe(law, [], [])}}
    path = write(tmp_path, record)

    def warnings_of(name: str, **training) -> list[str]:
        found = prepare(small_study(path, **training), epath.Path(tmp_path / name))
        return found.describe_recipe()[1]

    told = [text for text in warnings_of("other") if "other training" in text]
    assert told == [
        "The law of the learning rate comes from other training than this study's: "
        "optimizer sgd, where the sweep has adam; schedule cosine, where the sweep has "
        "linear. The best there need not be the best here."
    ]
    same = warnings_of("same", optimizer="adam", schedule="linear")
    assert not any("other training" in text for text in same)


def test_programs_of_a_table_say_what_was_trained(tmp_path):
    sweep = make_sweep()
    table = {
        "params": sweep.sizes["params"],
        "data": sweep.sizes["data"],
        "learning_rate": sweep.setting,
        "loss": sweep.value,
        "program": ["a/b/vit(patch=4)/width8/depth2/batch32/sgd-nesterov/wsd"]
        * len(sweep.setting),
    }
    (read,) = read_sweeps(table)
    assert read_programs(read.programs) == {
        "family": ["vit(patch=4)"],
        "optimizer": ["sgd-nesterov"],
        "schedule": ["wsd"],
    }
    del table["program"]
    (silent,) = read_sweeps(table)
    assert read_programs(silent.programs) == {}


def broken(record, **changes) -> dict:
    """The recipe with something of its law changed."""
    changed = copy.deepcopy(record)
    changed["laws"]["learning_rate"] |= changes
    return changed


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda _: None, "there is no .*recipe.json; give what"),
        (lambda _: "{", "cannot be read"),
        (lambda _: "[]", "is no recipe"),
        (lambda _: '{"kind": "scalepred forecast"}', "is no recipe"),
        (lambda r: broken(r, rule={}), "run the command of the recipe again"),
        (lambda r: broken(r, rule={"base": -1, "factor": ""}), "is no whole recipe"),
        (
            lambda r: broken(
                r, edges=[{"sizes": b["sizes"]} for b in r["laws"]["learning_rate"][
                    "bottoms"][:5]]
            ),
            "at 5 of the 9 sizes, so where it lies was not seen; widen the sweep",
        ),
        (
            lambda r: broken(
                r,
                exponents={"epochs": {"is_seen": True}},
                bottoms=[{"sizes": {"epochs": 2.0}}] * 3,
            ),
            "asks for epochs",
        ),
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_told_in_a_sentence(tmp_path, record, make, says):
    made = make(record)
    if made is not None:
        content = made if isinstance(made, str) else json.dumps(made)
        (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(UserError, match=f"^training.recipe={tmp_path}: .*{says}"):
        prepare(small_study(str(tmp_path)), epath.Path(tmp_path / "work"))


def test_what_is_said_twice_is_told(tmp_path, record):
    path = write(tmp_path / "recipe", record)
    with pytest.raises(UserError, match="learning_rate_rule is another rule of it"):
        recipes.follow(small_study(path, learning_rate_rule="1 / width"))
    swept = small_study(path)
    swept.grid.learning_rates = (0.1, 0.2)
    with pytest.raises(UserError, match=r"grid.learning_rates sweeps it"):
        recipes.follow(swept)
    # What the recipe has no law of stays as it is.
    swept.grid.learning_rates = ()
    swept.grid.weight_decays = (0.0, 0.1)
    decayed = small_study(path, weight_decay=0.1, weight_decay_rule="1 / width")
    assert recipes.follow(swept).grid == swept.grid
    assert recipes.follow(decayed).training.weight_decay_rule == "1 / width"
    with_arms = small_study(path)
    with_arms.arms = {"a": {}, "b": {"training.learning_rate": 0.3}}
    with pytest.raises(UserError, match=r"arms.b: training.learning_rate is said by"):
        arms.run(with_arms, epath.Path(tmp_path / "arms"), dry_run=True)


def test_data_of_another_unit_are_refused(tmp_path, record):
    path = write(tmp_path, broken(record, data_unit="tokens"))
    found = prepare(small_study(path), epath.Path(tmp_path / "work"))
    with pytest.raises(UserError, match="counts tokens, this study's data are images"):
        open_table(found)
    assert not (tmp_path / "work").exists()


def test_a_study_goes_on_only_with_the_numbers_it_began_with(tmp_path, record, capsys):
    workdir = epath.Path(tmp_path / "work")
    path = write(tmp_path / "one", record)
    study.run(small_study(path), workdir, ["train"])
    assert "learning rate = " in capsys.readouterr().out
    rows = Table(workdir / "measurements.csv").rows
    assert len(rows) == 4
    assert len({row.learning_rate for row in rows.values()}) == 4
    # Where the same numbers are read does not matter.
    moved = write(tmp_path / "moved", record)
    study.run(small_study(moved), workdir, ["train"])
    assert "nothing to train" in capsys.readouterr().out
    other = broken(record, rule={"base": 0.5, "factor": "(params / 10)**-0.1"})
    write(tmp_path / "one", other)
    with pytest.raises(UserError, match=r"training.learning_rate.*choose another"):
        study.run(small_study(path), workdir, ["train"])
