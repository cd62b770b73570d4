"""Each optimizer against optax's own on unstacked matrices, and who gets what."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from zoo.config import UserError
from zoo.config.schema import OptimizerConfig
from zoo.models.paths import leaves_by_path
from zoo.training.optimizer import describe_optimizer, make_optimizer, stop_frozen

NAMES = ("adamw", "adafactor", "lamb", "lion", "muon", "sgd")
L, D, N, H, F = 3, 8, 2, 4, 12
SHAPES = {
    "patch_embed/kernel": (2, 2, 3, D),
    "pos_embed": (5, D),
    "blocks/attn_norm/scale": (L, D),
    "blocks/attn/q/kernel": (L, D, N, H),
    "blocks/attn/q/bias": (L, N, H),
    "blocks/attn/out/kernel": (L, N, H, D),
    "blocks/mlp/up/kernel": (L, D, F),
    "head/kernel": (D, 6),
    "head/bias": (6,),
}
OPTIONS = {
    "adafactor": {"min_dim_size_to_factor": 4},
    "sgd": {"momentum": 0.9, "nesterov": True},
    "lamb": {"b2": 0.99},
}
SCHEDULE = optax.linear_schedule(0.01, 0.1, 5)


def nest(flat):
    tree = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def random_tree(seed, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return nest({p: rng.normal(size=s).astype(np.float32) for p, s in shapes.items()})


def update(tx, grads, state, params):
    """numpy in, numpy out: eager jax compiles each operation of each shape."""
    return jax.device_get(jax.jit(tx.update)(grads, state, params))


def run(tx, params, steps=4, seed=1):
    """Parameters after some steps of random gradients."""
    state = jax.jit(tx.init)(params)
    for step in range(steps):
        updates, state = update(tx, random_tree(seed + step), state, params)
        params = jax.tree.map(np.add, params, updates)
    return params


def matrix(path, x):
    """A parameter of one layer as the vector, matrix or table that it is."""
    if not path.endswith("kernel"):
        return x.reshape(-1) if path.endswith("bias") else x
    return x.reshape(D, -1) if "/q/" in path else x.reshape(-1, x.shape[-1])


def unstack(tree):
    """`{"PATH@LAYER": matrix of one layer}`, without any stack."""
    flat = {}
    for path, leaf in leaves_by_path(tree).items():
        layers = leaf if path.startswith("blocks/") else leaf[None]
        flat |= {f"{path}@{i}": matrix(path, layer) for i, layer in enumerate(layers)}
    return flat


def run_optax(name, params, weight_decay, steps=4, seed=1):
    """optax's function on the unstacked tree; decay by its mask, or by hand where it differs."""
    params = unstack(params)
    kernel = {path: "kernel" in path for path in params}
    options = OPTIONS.get(name, {})
    by_hand = weight_decay
    if name == "lamb":
        by_hand = 0.0
        tx = optax.chain(
            optax.scale_by_adam(eps=1e-6, **options),
            optax.add_decayed_weights(weight_decay, kernel),
            optax.masked(optax.scale_by_trust_ratio(), kernel),
            optax.scale_by_learning_rate(SCHEDULE),
        )
    elif name in ("adamw", "lion"):
        by_hand = 0.0
        function = getattr(optax, name)
        tx = function(SCHEDULE, weight_decay=weight_decay, mask=kernel, **options)
    elif name == "muon":
        # A copy of the rule in words: kernels of the layers, and neither the stem nor the head.
        dims = {
            p: optax.contrib.MuonDimensionNumbers(0, 1) if "kernel" in p and "blocks" in p else None
            for p in params
        }
        tx = optax.contrib.muon(SCHEDULE, muon_weight_dimension_numbers=dims, **options)
    else:
        tx = getattr(optax, name)(SCHEDULE, **options)
    state = jax.jit(tx.init)(params)
    for step in range(steps):
        grads = unstack(random_tree(seed + step))
        updates, state = update(tx, grads, state, params)
        rate = np.float32(SCHEDULE(step)) * by_hand
        params = {p: x + updates[p] - kernel[p] * rate * x for p, x in params.items()}
    return params


@pytest.mark.parametrize("name", NAMES)
def test_stacked_layers_move_as_optax_moves_each_by_itself(name):
    cfg = OptimizerConfig(name=name, weight_decay=0.3, options=OPTIONS.get(name, {}))
    params = random_tree(0)
    ours = unstack(run(make_optimizer(cfg, params, SCHEDULE), params))
    theirs = run_optax(name, params, weight_decay=0.3)
    assert ours.keys() == theirs.keys()
    for path, value in theirs.items():
        np.testing.assert_allclose(ours[path], value, rtol=2e-5, atol=2e-6, err_msg=path)


def test_lamb_rescales_every_tensor_where_all_decay_as_optax_does():
    cfg = OptimizerConfig(name="lamb", weight_decay=0.3, decay_rules=((".*", 1.0),))
    params = random_tree(0)
    ours = unstack(run(make_optimizer(cfg, params, SCHEDULE), params))
    theirs, tx = unstack(params), optax.lamb(SCHEDULE, weight_decay=0.3)
    state = tx.init(theirs)
    for step in range(4):
        updates, state = update(tx, unstack(random_tree(1 + step)), state, theirs)
        theirs = {path: x + updates[path] for path, x in theirs.items()}
    for path, value in theirs.items():
        np.testing.assert_allclose(ours[path], value, rtol=2e-5, atol=2e-6, err_msg=path)


def test_adafactor_momentum_averages_the_direction_before_the_learning_rate():
    params = random_tree(0)
    cfg = OptimizerConfig(name="adafactor", options={"momentum": 0.5, "dtype_momentum": "bfloat16"})
    tx = make_optimizer(cfg, params, optax.constant_schedule(0.1))
    plain = make_optimizer(OptimizerConfig(name="adafactor"), params, optax.constant_schedule(0.1))
    grads = random_tree(1)
    first, state = update(tx, grads, jax.jit(tx.init)(params), params)
    alone, _ = update(plain, grads, jax.jit(plain.init)(params), params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b / 2, rtol=1e-5), first, alone)
    kept = [x for x in jax.tree.leaves(state) if x.dtype == jnp.bfloat16]
    assert sorted(x.shape for x in kept) == sorted(SHAPES.values())


@pytest.mark.parametrize("name", [*NAMES, "bert_adamw"])
def test_state_mirrors_the_parameters_where_they_lie(name):
    options = (
        {"mu_dtype": "bfloat16"} if name in ("adamw", "lion", "muon") else OPTIONS.get(name, {})
    )
    params = random_tree(0)
    tx = make_optimizer(OptimizerConfig(name=name, options=options), params, SCHEDULE)
    state = jax.tree_util.tree_leaves_with_path(jax.eval_shape(tx.init, params))
    keys = {path: leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    mirrored, dtypes = set(), set()
    for path, leaf in state:
        tail = next((path[i:] for i in range(len(path)) if path[i:] in keys), None)
        if tail is None:
            assert leaf.ndim == 0 or name == "muon", path  # counts, and Muon's coefficients
        elif name != "adafactor":
            assert leaf.shape == keys[tail], path
            mirrored.add(tail)
            dtypes.add(leaf.dtype.name)
    assert name == "adafactor" or mirrored == keys.keys()
    assert ("bfloat16" in dtypes) == ("mu_dtype" in options)


@pytest.mark.parametrize("name", [*NAMES, "bert_adamw"])
def test_nnx_state_and_nested_dicts_are_treated_alike(name):
    class Model(nnx.Module):
        def __init__(self, tree):
            for key, value in tree.items():
                setattr(self, key, Model(value) if isinstance(value, dict) else nnx.Param(value))

    pure = random_tree(0)
    graphdef, params = nnx.split(Model(pure), nnx.Param)
    assert leaves_by_path(params).keys() == SHAPES.keys()
    cfg = OptimizerConfig(
        name=name, weight_decay=0.1, freeze=("pos_embed",), layer_decay=0.5, clip_norm=1.0
    )
    tx = make_optimizer(cfg, jax.eval_shape(lambda: params), SCHEDULE)
    # The abstract State tells what there is; arrays may come in either form.
    grads = random_tree(1)
    updates, _ = update(tx, grads, jax.jit(tx.init)(pure), pure)
    as_state = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(grads))
    same, _ = update(tx, as_state, jax.jit(tx.init)(params), params)
    new = nnx.merge(graphdef, optax.apply_updates(params, same))
    np.testing.assert_allclose(
        new.head.kernel[...], pure["head"]["kernel"] + updates["head"]["kernel"], rtol=1e-6
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), nnx.to_pure_dict(same), updates
    )


def test_decay_and_lr_follow_the_first_rule_that_matches():
    cfg = OptimizerConfig(
        name="sgd",
        weight_decay=0.5,
        decay_rules=((r"head/.*", 2.0), (r".*/kernel", 1.0), (r".*", 0.0)),
        lr_rules=((r"pos_embed", 3.0), (r".*", 1.0)),
    )
    params = random_tree(0)
    tx = make_optimizer(cfg, params, optax.constant_schedule(0.1))
    zeros = jax.tree.map(np.zeros_like, params)
    decays, _ = update(tx, zeros, jax.jit(tx.init)(params), params)
    for path, moved in leaves_by_path(decays).items():
        factor = 2.0 if path.startswith("head") else 1.0 if path.endswith("kernel") else 0.0
        np.testing.assert_allclose(
            moved, -0.1 * 0.5 * factor * leaves_by_path(params)[path], rtol=1e-6, err_msg=path
        )
    ones = jax.tree.map(np.ones_like, params)
    steps, _ = update(tx, ones, jax.jit(tx.init)(params), zeros)
    assert np.all(steps["pos_embed"] == np.float32(-0.1) * 3)
    assert np.all(steps["head"]["bias"] == np.float32(-0.1))


def test_layer_decay_is_that_of_beit():
    cfg = OptimizerConfig(layer_decay=0.5, lr_rules=((r"blocks/mlp/.*", 10.0), (r".*", 1.0)))
    rows = {row.path: row for row in describe_optimizer(cfg, random_tree(0))}
    assert rows["patch_embed/kernel"].lr == rows["pos_embed"].lr == (0.5**4,)
    assert rows["blocks/attn/q/bias"].lr == (0.5**3, 0.5**2, 0.5**1)
    assert rows["blocks/mlp/up/kernel"].lr == (1.25, 2.5, 5.0)
    assert rows["head/kernel"].lr == (1.0,)
    assert rows["head/kernel"].shape == (D, 6)


def test_layer_decay_scales_each_layer_of_a_stack():
    params = random_tree(0)
    grads = jax.tree.map(np.ones_like, params)
    cfg = OptimizerConfig(name="sgd", layer_decay=0.5)
    tx = make_optimizer(cfg, params, optax.constant_schedule(1.0))
    updates, _ = update(tx, grads, jax.jit(tx.init)(params), params)
    kernel = updates["blocks"]["attn"]["q"]["kernel"]
    assert kernel.shape == (L, D, N, H)
    np.testing.assert_array_equal(kernel[:, 0, 0, 0], [-0.125, -0.25, -0.5])
    assert np.all(updates["head"]["bias"] == -1)
    assert np.all(updates["patch_embed"]["kernel"] == -0.0625)


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parameters_stay_have_no_state_and_leave_the_others_alone(name):
    cfg = OptimizerConfig(name=name, weight_decay=0.1, clip_norm=0.5)
    params = random_tree(0)
    frozen = {"patch_embed/kernel", "pos_embed", *(p for p in SHAPES if p.startswith("blocks/"))}
    kept = {path: shape for path, shape in SHAPES.items() if path not in frozen}
    tx = make_optimizer(
        cfg.replace(freeze=("patch_embed/.*", "pos_embed", "blocks/.*")), params, SCHEDULE
    )
    small = nest({p: leaf for p, leaf in leaves_by_path(params).items() if p in kept})
    alone = make_optimizer(cfg, small, SCHEDULE)
    state = jax.jit(tx.init)(params)
    assert sum(x.size for x in jax.tree.leaves(state)) == sum(
        x.size for x in jax.tree.leaves(jax.jit(alone.init)(small))
    )
    # The clipping norm is that of the trained parameters alone.
    grads = random_tree(5)
    updates, _ = update(tx, grads, state, params)
    small_grads = nest({p: leaf for p, leaf in leaves_by_path(grads).items() if p in kept})
    expected, _ = update(alone, small_grads, jax.jit(alone.init)(small), small)
    for path, moved in leaves_by_path(updates).items():
        if path in frozen:
            assert not np.any(moved), path
        else:
            np.testing.assert_allclose(moved, leaves_by_path(expected)[path], rtol=1e-6)


def count_matmuls(jaxpr):
    total = 0
    for eqn in jaxpr.eqns:
        total += eqn.primitive.name == "dot_general"
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += count_matmuls(inner)
    return total


def test_frozen_parameters_cost_no_gradient():
    params = {
        "stem": jnp.ones((4, 4)),
        "blocks": {"kernel": jnp.ones((3, 4, 4))},
        "head": jnp.ones((4, 2)),
    }

    def matmuls(*freeze):
        cfg = OptimizerConfig(freeze=freeze)

        def loss(params):
            params = stop_frozen(cfg, params)
            x = jnp.ones((2, 4)) @ params["stem"]
            x, _ = jax.lax.scan(lambda x, w: (x @ w, None), x, params["blocks"]["kernel"])
            return jnp.sum(x @ params["head"])

        return count_matmuls(jax.make_jaxpr(jax.grad(loss))(params).jaxpr)

    # Forward: 3. Backward: the weights' 3, and the activations' 2, as the stem's input needs none.
    assert matmuls() == 8
    assert matmuls("stem") == 7  # its own; the loop's body is the same for all layers
    assert matmuls("blocks/.*") == 7
    assert matmuls("stem", "blocks/.*") == 4


def test_clipping_is_by_the_norm_of_the_whole_model():
    params = random_tree(0)
    grads = random_tree(1)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
    for clip, factor in ((norm / 4, 1 / 4), (norm * 2, 1.0)):
        cfg = OptimizerConfig(name="sgd", clip_norm=float(clip))
        tx = make_optimizer(cfg, params, optax.constant_schedule(1.0))
        updates, _ = update(tx, grads, jax.jit(tx.init)(params), params)
        jax.tree.map(
            lambda u, g, f=factor: np.testing.assert_allclose(u, -f * g, rtol=1e-5), updates, grads
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"options": {"bb2": 0.9}}, "optimizer.options.bb2: optax's adamw has no .* mean 'b2'"),
        ({"options": {"mask": None}}, "set optimizer.decay_rules instead"),
        ({"options": {"weight_decay": 0.1}}, "set optimizer.weight_decay instead"),
        ({"options": {"mu_dtype": "bf61"}}, "'bf61' is no dtype"),
        ({"options": {"b1": "0.9"}}, "'0.9' given; expected something like 0.9"),
        ({"options": {"nesterov": 1}}, "1 given; expected something like False"),
        ({"name": "muon", "options": {"preconditioning": "aoll"}}, "did you mean 'aol'"),
        ({"name": "sgd", "options": {"b1": 0.9}}, "optax's sgd has no such option"),
        ({"lr_rules": ((r"head/.*", 2.0),)}, "no rule covers the parameter 'blocks/attn/out/kern"),
        ({"decay_rules": ((r".*/kernl", 1.0), (r".*", 0.0))}, "'.*/kernl' matches no parameter"),
        ({"freeze": ("head/kernal",)}, "freeze: 'head/kernal' matches .* mean 'head/kernel'"),
        ({"freeze": (r"*",)}, r"'\*' is no regular expression"),
        ({"freeze": (".*",)}, "leaves no parameter to train"),
        ({"lr_rules": ((r".*", 1.0), (r"head/.*", 2.0))}, "'head/.*' decides for no parameter"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        make_optimizer(OptimizerConfig(**settings), random_tree(0), SCHEDULE)


def test_layer_decay_needs_a_stack():
    params = nest({"head/kernel": jnp.ones((2, 3)), "head/bias": jnp.ones(3)})
    with pytest.raises(UserError, match="one stack of layers"):
        make_optimizer(OptimizerConfig(layer_decay=0.9), params, SCHEDULE)


@pytest.mark.parametrize("name", ["adafactor", "lamb", "muon"])
def test_a_stack_within_another_module_is_a_stack(name):
    kernel = "blocks/mlp/up/kernel"
    cfg = OptimizerConfig(name=name, lr=0.1, options=OPTIONS.get(name, {}))
    moved = {}
    for path in (kernel, f"decoder/{kernel}"):
        # Layers of unequal size, which a ratio or statistic of the whole stack would mix.
        value = random_tree(0, {"x": (L, D, F)})["x"] * np.array([1, 10, 100]).reshape(-1, 1, 1)
        params = nest({path: value.astype(np.float32)})
        grads = random_tree(1, {path: (L, D, F)})
        tx = make_optimizer(cfg, params, SCHEDULE)
        (moved[path],) = jax.tree.leaves(update(tx, grads, tx.init(params), params)[0])
    np.testing.assert_allclose(moved[kernel], moved[f"decoder/{kernel}"], rtol=1e-6)


@pytest.mark.parametrize("name", ["adafactor", "lamb"])
def test_an_encoder_and_a_decoder_may_differ_in_depth(name):
    cfg = OptimizerConfig(name=name, lr=0.1, options=OPTIONS.get(name, {}))
    shapes = {"encoder/blocks/mlp/up/kernel": (2, D, F), "decoder/blocks/mlp/up/kernel": (5, D, F)}
    grads, params = random_tree(0, shapes), random_tree(1, shapes)
    tx = make_optimizer(cfg, params, SCHEDULE)
    together = update(tx, grads, tx.init(params), params)[0]
    for stack in shapes:
        half = [
            {stack.partition("/")[0]: tree[stack.partition("/")[0]]} for tree in (grads, params)
        ]
        tx = make_optimizer(cfg, half[1], SCHEDULE)
        (alone,) = jax.tree.leaves(update(tx, half[0], tx.init(half[1]), half[1])[0])
        (found,) = jax.tree.leaves(together[stack.partition("/")[0]])
        np.testing.assert_allclose(found, alone, rtol=1e-6)


def test_layer_decay_is_refused_for_two_stacks():
    shapes = {f"{stack}/blocks/kernel": (L, D, D) for stack in ("encoder", "decoder")}
    with pytest.raises(UserError, match="the model has 'decoder/blocks/', 'encoder/blocks/'"):
        make_optimizer(OptimizerConfig(layer_decay=0.9), random_tree(0, shapes), SCHEDULE)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_ten_steps_equal_pytorch(name):
    torch = pytest.importorskip("torch")
    # PyTorch's SGD adds its decay to the gradient instead.
    decay = 0.3 if name == "adamw" else 0.0
    options = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {"b2": 0.99}
    cfg = OptimizerConfig(
        name=name, weight_decay=decay, decay_rules=((".*", 1.0),), options=options, clip_norm=5.0
    )
    params = random_tree(0)
    tx = make_optimizer(cfg, params, optax.constant_schedule(0.02))
    ours = leaves_by_path(run(tx, params, steps=10))
    theirs = {
        path: torch.nn.Parameter(torch.tensor(np.asarray(x)))
        for path, x in leaves_by_path(params).items()
    }
    if name == "adamw":
        optimizer = torch.optim.AdamW(
            theirs.values(), lr=0.02, betas=(0.9, 0.99), weight_decay=decay
        )
    else:
        optimizer = torch.optim.SGD(theirs.values(), lr=0.02, momentum=0.9, nesterov=True)
    for step in range(10):
        for path, grad in leaves_by_path(random_tree(1 + step)).items():
            theirs[path].grad = torch.tensor(np.asarray(grad))
        torch.nn.utils.clip_grad_norm_(theirs.values(), 5.0)
        optimizer.step()
    for path, value in theirs.items():
        np.testing.assert_allclose(ours[path], value.detach(), rtol=1e-4, atol=1e-5, err_msg=path)
