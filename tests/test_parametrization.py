"""mup and completep: the published rules, what stays as it is, options of families."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scalepred import config, grid
from scalepred.config import UserError
from scalepred.data import digits
from scalepred.models import parametrization
from scalepred.models.model import (
    Model,
    Variables,
    build_model,
    find_family,
    is_builtin,
)
from scalepred.models.parametrization import Ratios, Role, parametrize
from scalepred.training import cost, ensemble
from scalepred.training.padding import check_padding

IMAGES, TEXT = (8, 8, 1), (8,)
# Family, input, widths of which the first is padded, depth, options at the first width.
CASES = {
    "mlp": (IMAGES, (4, 6), 3, "parametrization='mup', base_width={w}"),
    "transformer": (
        TEXT,
        (16, 32),
        2,
        "base_depth={d}, base_width={w}, parametrization='completep'",
    ),
    "vit": (
        IMAGES,
        (16, 32),
        2,
        "base_depth={d}, base_width={w}, parametrization='completep'",
    ),
    "wide_resnet": (
        IMAGES,
        (2, 3),
        8,
        "base_depth={d}, base_width={w}, parametrization='completep'",
    ),
}
every_family = pytest.mark.parametrize("family", CASES)


def _name(family: str, width: int, depth: int) -> str:
    return f"{family}({CASES[family][3].format(w=width, d=depth)})"


def _input(family: str) -> jax.Array:
    shape = CASES[family][0]
    random = np.random.default_rng(0)
    if shape == TEXT:
        return jnp.asarray(random.integers(0, 7, (4, *shape)))
    return jnp.asarray(random.normal(size=(4, *shape)), jnp.float32)


@every_family
def test_at_the_base_it_is_the_standard_one(family):
    """The same function, first weights, and gradients, bit for bit."""
    shape, (width, _), depth, _ = CASES[family]
    x, key = _input(family), jax.random.key(1)

    def run(name):
        model = build_model(name, width, depth, shape, 7)
        params, state = model.init(jax.random.key(0))

        @jax.jit
        def find(params):
            def loss(params):
                logits, _ = model.apply(params, state, x, train=True, key=key)
                return jnp.sum(jnp.sin(logits + jnp.arange(7))), logits

            return jax.grad(loss, has_aux=True)(params)

        return params, *find(params)

    same = run(_name(family, width, depth)), run(family)
    jax.tree.map(np.testing.assert_array_equal, *same)


@every_family
def test_counts_are_those_of_the_standard_one(family):
    shape, (_, width), depth, _ = CASES[family]
    base = CASES[family][1][0]
    standard = build_model(family, width, depth, shape, 7)
    other = build_model(_name(family, base, depth), width, depth, shape, 7)
    assert other.num_params_by_group == standard.num_params_by_group
    assert other.num_params == standard.num_params
    dtype = jnp.int32 if shape == TEXT else jnp.float32
    example = jax.ShapeDtypeStruct(shape, dtype)
    assert other.count_forward(example) == standard.count_forward(example)


@every_family
def test_padded_is_alone(family):
    """In a wider program a narrow model keeps its own factors."""
    shape, widths, depth, _ = CASES[family]
    base = 2 * widths[1]
    narrow, wide = (
        build_model(_name(family, base, 8), width, depth, shape, 7) for width in widths
    )
    dtype = jnp.int32 if shape == TEXT else jnp.float32
    assert narrow.can_be_padded
    check_padding(family, narrow, wide, jax.ShapeDtypeStruct(shape, dtype))


# Table 3 of Yang et al. 2022, muP beside SP at r = 4: what the deviation of first
# weights, and rates of adam and SGD, are multiplied by. (The table's fan_in and fan_out
# are the widths, so r each; its variance of the output is 1 / fan_in^2 in place of 1 /
# fan_in.)
TABLE_3 = {
    "input": (1.0, 1.0, 4.0),
    "hidden": (1.0, 1 / 4, 1.0),
    "output": (1 / 2, 1 / 4, 1 / 4),
    "vector": (1.0, 1.0, 4.0),
    "fixed": (1.0, 1.0, 1.0),
}


def _one_weight(role: Role, r: float, q: float) -> Model:
    """A model whose output is its weight times the input, stored by a role's rules."""

    def init(key):
        return Variables({"weight": jax.random.normal(key, (5,))}, {})

    def apply(params, state, x, *, train, key):
        return x * params["weight"], state

    return parametrize(Model(init, apply), Ratios(r, q), {"weight": role})


def _run(model: Model, params, state, x: jax.Array) -> jax.Array:
    return model.apply(params, state, x, train=True, key=jax.random.key(0))[0]


def _effective(model: Model, variables) -> np.ndarray:
    params, state = variables
    return np.asarray(_run(model, params, state, jnp.ones((1, 5))))


def _move(model: Model, optimizer, scale: float = 1.0) -> np.ndarray:
    """The change of the weight in one step, where its gradient is 1 to 5."""
    variables = model.init(jax.random.key(0))
    slope = scale * jnp.arange(1.0, 6.0)

    def loss(params):
        return jnp.sum(_run(model, params, variables.state, slope))

    gradient = jax.grad(loss)(variables.params)
    updates, _ = optimizer.update(gradient, optimizer.init(variables.params))
    after = optax.apply_updates(variables.params, updates)
    before = _effective(model, variables)
    return _effective(model, (after, variables.state)) - before


@pytest.mark.parametrize("kind", TABLE_3)
def test_rules_are_those_of_the_published_table(kind):
    start, adam, sgd = TABLE_3[kind]
    standard, scaled = (_one_weight(Role(kind), r, 1.0) for r in (1.0, 4.0))
    key = jax.random.key(0)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
    first = [_effective(model, model.init(key)) for model in (standard, scaled)]
    close(first[1], start * first[0])
    for make, factor in ((optax.adam(0.01), adam), (optax.sgd(0.01), sgd)):
        close(_move(scaled, make), factor * _move(standard, make), atol=1e-7)


def test_a_branch_is_divided_by_the_depth_and_its_steps_are_not():
    """CompleteP's table 1 at alpha = 1: Adam's rate stays, the branch's factor is 1/q,
    first weights are those of the base depth.
    """
    end = Role("hidden", "end", depth_start=-0.5)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    base, deep = (_one_weight(end, 1.0, q) for q in (1.0, 9.0))
    key = jax.random.key(0)
    # The standard start falls as the root of the depth, which is taken back.
    close(_effective(deep, deep.init(key)), 3 / 9 * _effective(base, base.init(key)))
    close(_move(deep, optax.adam(0.01)), 1 / 9 * _move(base, optax.adam(0.01)))
    # Within a branch gradients are 1 / q of those at the base; steps are the same.
    inside = Role("hidden", "inside")
    base, deep = (_one_weight(inside, 1.0, q) for q in (1.0, 9.0))
    for make in (optax.adam(0.01, eps=1e-2), optax.sgd(0.01)):
        close(_move(deep, make, scale=1 / 9), _move(base, make))


def test_a_decoupled_decay_shrinks_every_weight_alike():
    """CompleteP: a weight decay that grows as Adam's rate falls."""
    for role in (Role("input"), Role("hidden"), Role("output")):
        model = _one_weight(role, 4.0, 1.0)
        variables = model.init(jax.random.key(0))
        optimizer = optax.adamw(0.01, weight_decay=0.5)
        nothing = jax.tree.map(jnp.zeros_like, variables.params)
        state = optimizer.init(variables.params)
        updates, _ = optimizer.update(nothing, state, variables.params)
        after = optax.apply_updates(variables.params, updates)
        before = _effective(model, variables)
        np.testing.assert_allclose(
            _effective(model, (after, variables.state)), 0.995 * before, rtol=1e-5
        )


def test_optimisers_see_gradients_of_one_size():
    """So Adam's epsilon means the same at every width and depth."""

    def sizes(width, depth):
        name = "transformer(parametrization='completep', base_width=32, base_depth=2)"
        model = build_model(name, width, depth, (8,), 7)
        params, state = model.init(jax.random.key(0))
        shape = params["output"]["kernel"].shape
        params["output"]["kernel"] = jax.random.normal(jax.random.key(1), shape)
        x = jax.random.randint(jax.random.key(2), (16, 8), 0, 7)

        def loss(params):
            logits = _run(model, params, state, x)
            return jnp.mean(jax.nn.log_softmax(logits)[..., 0])

        gradient = jax.jit(jax.grad(loss))(params)
        block = gradient["blocks"][0]
        leaves = (block["attention"]["qkv"], block["attention"]["out"],
                  block["expand"]["kernel"], block["contract"]["kernel"],
                  block["norm2"]["scale"], gradient["output"]["kernel"],
                  gradient["embedding"]["table"])  # fmt: skip
        return np.array([float(jnp.sqrt(jnp.mean(leaf**2))) for leaf in leaves])

    base = sizes(32, 2)
    for size in ((128, 2), (32, 8)):
        ratio = sizes(*size) / base
        assert np.all((ratio > 0.4) & (ratio < 2.5)), ratio


def test_16_bits_take_the_factor_whole():
    """A third is no bfloat16: rounded, it would be off alike in every weight."""
    model = _one_weight(Role("hidden"), 3.0, 1.0)
    params = {"weight": jnp.full(5, 3.0, jnp.bfloat16)}
    state = {"parametrization": jnp.float32(3)}
    ones = jnp.ones((1, 5), jnp.bfloat16)
    found = _run(model, params, state, ones)
    np.testing.assert_array_equal(np.asarray(found, float), 1.0)


def test_a_weight_without_a_role_is_a_mistake_of_the_family():
    model = build_model("mlp", 4, 1, (8,), 3)
    with pytest.raises(UserError, match=r"layers\.0\.bias has no role"):
        parametrize(model, Ratios(2.0, 1.0), {"*.kernel": Role("hidden")}).init(
            jax.random.key(0)
        )


@pytest.mark.parametrize("family", CASES)
def test_every_weight_has_the_role_of_its_shape(family):
    """Hidden weights have two axes that grow with the width, vectors and inputs and
    outputs one, fixed ones none.
    """
    shape, _, depth, _ = CASES[family]
    narrow, wide = (
        build_model(family, width, depth, shape, 7).shapes.params for width in (32, 64)
    )
    module = importlib.import_module(f"scalepred.models.{family}")
    roles = module.make_roles(depth) if family == "mlp" else module.ROLES
    growing = {"hidden": 2, "input": 1, "output": 1, "vector": 1, "fixed": 0}

    def check(path, small, large):
        role = parametrization.find_role(roles, path)
        pairs = list(zip(small.shape, large.shape, strict=True))
        assert sum(a != b for a, b in pairs) == growing[role.kind], path
        if role.kind in ("input", "output"):
            assert (pairs[-1][0] != pairs[-1][1]) is (role.kind == "input"), path

    jax.tree_util.tree_map_with_path(check, narrow, wide)


DATASET = digits.load()


def _experiment(family: str, **training) -> config.Experiment:
    return config.Experiment(
        name="x",
        family=family,
        grid=config.Grid(widths=(3, 5), data_fractions=(0.2,)),
        training=config.Training(
            **{"optimizer": "adam", "learning_rate": 0.01, "steps": 20, **training}
        ),
    )


def _values(family: str, width_bucket: float, **training) -> list[float]:
    experiment = _experiment(family, **training)
    experiment.packing.width_bucket = width_bucket
    experiment.packing.lane_axis = "map"
    cells = grid.make_cells(experiment, DATASET)
    plan = ensemble.plan_cells(experiment, DATASET, cells)
    assert len(plan.packs) == (2 if width_bucket == 1 else 1)
    rows = {r.cell_id: r for news in ensemble.train(plan, DATASET) for r in news.rows}
    return [rows[cell.cell_id].read("loss") for cell in cells]


@pytest.mark.parametrize(
    "optimizer", ["adam", pytest.param("sgd", marks=pytest.mark.slow)]
)
def test_results_do_not_depend_on_the_program_they_share(optimizer):
    family = "mlp(parametrization='mup', base_width=8)"
    alone, together = (_values(family, b, optimizer=optimizer) for b in (1.0, 2.0))
    np.testing.assert_allclose(together, alone, rtol=1e-4)


def test_options_have_one_spelling_and_defaults_none():
    def ids(family):
        cells = grid.make_cells(_experiment(family), DATASET)
        return [cell.cell_id for cell in cells]

    plain = ids("mlp")
    assert ids("mlp()") == plain
    assert ids("mlp(base_width=64, parametrization='standard')") == plain
    one = ids("mlp(parametrization='mup', base_width=8)")
    assert one == ids('mlp( base_width=8,parametrization = "mup" )')
    assert not {*one} & {*plain}
    found = find_family("mlp(parametrization='mup', base_width=8)")
    assert str(found) == "mlp(base_width=8, parametrization='mup')"
    assert is_builtin(str(found))


def test_ids_of_families_without_options_stay():
    """An id from before there were options."""
    (cell, _) = grid.make_cells(_experiment("mlp"), DATASET)
    assert cell.family == "mlp"
    assert cell.cell_id == "b4a7f08792d4"


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("mlp(depth=2)", "has no option depth; it has base_width, parametrization"),
        ("mlp(parametrization='mu')", "'mu' must be one of standard, mup"),
        ("mlp(parametrization='completep')", "mlp has no residual branches"),
        ("vit(parametrization='mu')", "one of standard, mup, completep"),
        ("mlp(parametrization=2)", "a value such as 'standard'"),
        ("mlp(parametrization='mup', base_width=0)", "must be sizes"),
        ("vgg16bn(a=1)", "vgg16bn has no option a; it has none"),
        ("mlp(8)", r"such as mlp\(parametrization='mup'\)"),
        ("mlp(", r"such as mlp\(parametrization='mup'\)"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(family, words):
    name = family.partition("(")[0]
    shape, depth = (TEXT, 2) if name == "transformer" else (IMAGES, 2)
    with pytest.raises(UserError, match=words) as error:
        build_model(family, 16, depth, shape, 7)
    assert "\n" not in str(error.value)


def test_optimisers_that_look_at_whole_arrays_are_refused():
    costs = cost.ProgramCosts(DATASET)
    for name in ("muon", "lamb", "adafactor"):
        experiment = _experiment("mlp(parametrization='mup')", optimizer=name)
        (cell, _) = grid.make_cells(experiment, DATASET)
        with pytest.raises(UserError, match=f"training.optimizer='{name}'.*adamw.*sgd"):
            costs(cell.program_key)
    plain = grid.make_cells(_experiment("mlp", optimizer="muon"), DATASET)
    costs(plain[0].program_key)


def test_a_family_of_ones_own_has_options(monkeypatch, tmp_path):
    (tmp_path / "own_options.py").write_text(
        "from scalepred.models import mlp\n"
        "def build(width, depth, input_shape, num_classes, gain=1.0):\n"
        "    return mlp.build(round(gain * width), depth, input_shape, num_classes)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    plain = build_model("own_options", 4, 1, (8,), 3).num_params
    assert build_model("own_options(gain=2)", 4, 1, (8,), 3).num_params > plain
    assert str(find_family("own_options(gain=2)")) == "own_options(gain=2.0)"
    assert not is_builtin("own_options(gain=2)")


def test_weights_of_a_family_with_options_are_loaded_again(tmp_path):
    from scalepred.training import weights

    experiment = _experiment("mlp(parametrization='mup', base_width=8)")
    (cell, _) = grid.make_cells(experiment, DATASET)
    model = build_model(cell.family, cell.width, cell.depth, (64,), 10)
    variables = jax.tree.map(np.asarray, model.init(jax.random.key(0)))
    weights.write(tmp_path, DATASET, {cell: variables})
    again, loaded = weights.load_model(tmp_path, cell.cell_id)
    x = jnp.asarray(DATASET.inputs[:3])
    found, expected = (
        _run(one, arrays.params, arrays.state, x)
        for one, arrays in ((again, loaded), (model, variables))
    )
    np.testing.assert_array_equal(found, expected)
