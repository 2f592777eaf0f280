"""The kernels for GPU and TPU: interpreted, and lowered for their platforms without one at hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from pals_jax.affinity import Kernel, kernels, pallas

each_form = pytest.mark.parametrize("form", [pallas.on_gpu, pallas.on_tpu])


@each_form
@pytest.mark.parametrize(
    ("similarity", "temperature"), [("exp_cosine", 0.1), ("exp_cosine", 0.005), ("relu_cosine", 1)]
)
@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_both_forms_agree_with_the_reference(form, similarity, temperature, exclude_self, dtype):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 37, 20)).astype(dtype)
    values = rng.dirichlet(np.ones(5), size=(2, 37)).astype(np.float32)
    labels, correct = rng.integers(0, 3, (2, 37)), rng.random((2, 37)) < 0.7
    labels[0, 0] = 9  # nobody else
    options = {"similarity": similarity, "temperature": temperature, "exclude_self": exclude_self}
    expected, expected_has = reference.aggregate(
        features.astype(np.float32), values, labels=labels, correct=correct, **options
    )
    kernel = Kernel(similarity, temperature, 1.0)
    sums = form(
        kernels.directions(jnp.asarray(features), exact=kernel.is_steep),
        kernels.with_ones(jnp.asarray(values), jnp.asarray(correct)),
        jnp.asarray(correct),
        jnp.asarray(labels, jnp.int32),
        kernel=kernel,
        exclude_self=exclude_self,
        tile_size=16,
        interpret=True,
    )
    total = np.asarray(sums[..., -1:])
    np.testing.assert_array_equal(total[..., 0] > 0, expected_has)
    found = sums[..., :-1] / np.where(total > 0, total, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("form", "platform"), [(pallas.on_gpu, "cuda"), (pallas.on_tpu, "tpu")])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("temperature", [0.1, 0.005])
def test_both_forms_lower_for_their_platform(form, platform, dtype, temperature):
    kernel = Kernel("exp_cosine", temperature, 1.0)
    program = functools.partial(form, kernel=kernel, exclude_self=True, tile_size=None)
    shapes = [
        jax.ShapeDtypeStruct((2, 1000, *more), kind)
        for more, kind in (((20,), dtype), ((), jnp.bool_), ((), jnp.int32))
    ]
    features = jax.ShapeDtypeStruct((2, 1000, 100), dtype)
    directions = jax.eval_shape(
        functools.partial(kernels.directions, exact=kernel.is_steep), features
    )
    # Newer versions of JAX ask for the model of the GPU where none is at hand.
    device = AbstractDevice("NVIDIA H100 80GB HBM3", num_cores=None, platform="gpu")
    with use_abstract_mesh(AbstractMesh((1,), ("x",), abstract_device=device)):
        lowered = jax.jit(program).trace(directions, *shapes).lower(lowering_platforms=(platform,))
    assert "affinity_aggregate" in lowered.as_text()
