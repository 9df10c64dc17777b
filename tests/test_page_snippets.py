"""Every snippet of Python on a page is run, its `...` filled in.

Those that are marked as run or as a file are run by test_readme and test_docs, and by
test_own_families; notebooks by test_notebooks.
"""

import pathlib
import re

import numpy as np
import pages
import pytest
from test_page_commands import law, write_tables

import scalepred
from scalepred import config, grid, validation
from scalepred.arms.make import make_experiments
from scalepred.data.loading import load_dataset
from scalepred.models.model import Model, build_model

WITH_SNIPPETS = [page for page in pages.NAMES if pages.read_python(page)]


_TRAINING = "training=config.Training(steps=20)"


def evaluate(snippet: str, **names) -> object:
    """The value of one expression."""
    return eval(snippet, {"config": config, **names})


def make_study(**fields) -> config.Experiment:
    """A valid study with these fields, whose cells can be made."""
    usual = {"dataset": "digits", "training": config.Training(steps=20)}
    study = config.Experiment(name="x", **{**usual, **fields})
    for one in make_experiments(study).values() if study.arms else (study,):
        validation.validate(one)
        dataset = load_dataset(one.dataset, outline=True)
        assert grid.make_cells(one, dataset)
    return study


def read_fields(snippet: str) -> dict:
    """Arguments that a page shows without what they are arguments of."""
    found = evaluate(f"dict({snippet.replace('(..., ', '(')})")
    assert isinstance(found, dict)
    return found


def show_arms(snippets: list[str]) -> None:
    (snippet,) = snippets
    study = evaluate(snippet.replace("...,", f"name='x', {_TRAINING},", 1))
    assert isinstance(study, config.Experiment)
    arms = make_experiments(study)
    for one in arms.values():
        validation.validate(one)
    assert [one.training.optimizer for one in arms.values()][1] == "muon"


def compare(snippets: list[str]) -> None:
    (snippet,) = snippets
    m, n = (
        size.ravel() for size in np.meshgrid([1e7, 1e8, 1e9, 1e10], [1e9, 1e10, 1e11])
    )
    noise = 1 + 0.003 * np.random.default_rng(0).standard_normal((2, 12))
    names = {
        name: scalepred.Surface.from_arrays(m, n, value * one, metric="loss")
        for name, value, one in (
            ("mlp", law(m, n), noise[0]),
            ("cnn", law(3 * m, n), noise[1]),
        )
    }
    exec(snippet, namespace := {**names})
    found = namespace["found"]
    assert found.pairs[0].headline.at
    assert len(found.pairs) == 1


def show_targets(snippets: list[str]) -> None:
    (snippet,) = snippets
    study = make_study(dataset="teacher", metric="loss", **read_fields(snippet))
    assert study.targets.widths == (512,)


def train(snippets: list[str]) -> None:
    mine, branches = snippets
    exec(mine, namespace := {})
    study = namespace["get_config"]()
    validation.validate(study)
    assert len(grid.make_cells(study, load_dataset("digits"))) == 4 * 5 * 4
    assert make_study(**read_fields(branches)).grid.branches


def show_recipes(snippets: list[str]) -> None:
    (snippet,) = snippets
    write_tables(pathlib.Path(), "docs/recipes.md")
    exec(snippet, namespace := {})
    found = namespace["law"]
    assert found.exponents["params"].value == pytest.approx(-0.4, abs=0.1)
    assert "params" in str(found.rule())


def show_training(snippets: list[str]) -> None:
    for snippet in snippets:
        assert make_study(training=evaluate(snippet)).training.learning_rate_rule


def transfer(snippets: list[str]) -> None:
    study, training, build = snippets
    named = evaluate(study.replace("...", ""))
    assert isinstance(named, config.Experiment)
    assert build_model(named.family, 64, 1, (64,), 256).num_params > 0
    make_study(training=evaluate(training.replace("...", "steps=20")))

    def make_my_model(width: int, depth: int) -> Model:
        return build_model("mlp", width, depth, (8, 8, 1), 10)

    exec(build, namespace := {"make_my_model": make_my_model})
    sizes = 128, 2, (8, 8, 1), 10
    plain = make_my_model(128, 2)
    for form in ("standard", "mup"):
        made = namespace["build"](*sizes, parametrization=form)
        assert made.num_params == plain.num_params


PLAYS = {
    "docs/arms.md": show_arms,
    "docs/comparing.md": compare,
    "docs/forecasting.md": show_targets,
    "docs/recipes.md": show_recipes,
    "docs/tasks.md": show_training,
    "docs/training.md": train,
    "docs/transfer.md": transfer,
}


@pytest.mark.parametrize("page", WITH_SNIPPETS)
def test_snippets_of_every_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert page in PLAYS, "nobody runs its snippets; add how"
    PLAYS[page](pages.read_python(page))


def test_no_page_is_named_in_vain():
    assert {*PLAYS} == {*WITH_SNIPPETS}


def test_files_of_pages_are_run_by_other_tests():
    """Which read the files that a page shows from the page itself."""
    tests = "".join(
        (pages.ROOT / "tests" / name).read_text()
        for name in ("test_docs.py", "test_own_families.py", "test_readme.py")
    )
    shown = [
        (page, block.mark.removeprefix("file: "))
        for page in pages.NAMES
        for block in pages.read_blocks(page)
        if block.mark.startswith("file: ")
    ]
    for page, name in shown:
        is_table = name == "points.csv" and page in ("README.md", "docs/index.md")
        assert is_table or re.search(rf"\b{pathlib.Path(name).stem}\b", tests), name
