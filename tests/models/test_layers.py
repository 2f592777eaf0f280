import functools
import itertools

import jax
import jax.numpy as jnp
import narrow
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from pals_jax.models import layers, winograd


@settings(max_examples=25, deadline=None)
@given(
    size=st.sampled_from([1, 3, 7]),
    stride=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 2, 4]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    data=st.data(),
)
def test_each_tap_reads_the_pixel_that_pytorch_reads(size, stride, dilation, height, width, data):
    tap = data.draw(st.tuples(*[st.integers(0, size - 1)] * 2))
    x = np.arange(1, height * width + 1, dtype=np.float32).reshape(1, height, width, 1)
    kernel = np.zeros((size, size, 1, 1), np.float32)
    kernel[tap] = 1

    result = layers.convolve(jnp.asarray(x), jnp.asarray(kernel), stride=stride, dilation=dilation)

    expected = np.zeros((1, -(-height // stride), -(-width // stride), 1), np.float32)
    for i, j in itertools.product(range(expected.shape[1]), range(expected.shape[2])):
        row = stride * i + dilation * (tap[0] - size // 2)
        column = stride * j + dilation * (tap[1] - size // 2)
        if 0 <= row < height and 0 <= column < width:
            expected[0, i, j] = x[0, row, column]
    np.testing.assert_array_equal(result, expected)


# Of 5×7, at 2 taps are cropped; 6 reaches beyond the image with all taps but one.
@pytest.mark.parametrize(
    ("height", "dilation", "widest"),
    [(5, 1, False), (5, 2, False), (5, 6, False), (9, 1, True), (12, 2, True)],
)
def test_products_are_the_library_convolution(height, dilation, widest, monkeypatch):
    if widest:  # as the widest are computed, by Winograd
        monkeypatch.setattr(winograd, "_MIN_MULTIPLICATIONS", 0)
    x = narrow.wave((2, height, height + 2, 256), 0)
    kernel = narrow.wave((3, 3, 256, 8), 1)
    cotangent = narrow.wave((2, height, height + 2, 8), 2)
    assert winograd.pays(x, kernel, dilation) == widest

    def value_and_gradient(x, kernel):
        result, pullback = jax.vjp(
            lambda x, kernel: layers.convolve(x, kernel, stride=1, dilation=dilation), x, kernel
        )
        return result, *pullback(cotangent)

    products = jax.jit(value_and_gradient)(x, kernel)
    monkeypatch.setattr(layers, "_MIN_CHANNELS_FOR_PRODUCTS", 10**9)
    library = jax.jit(lambda *arrays: value_and_gradient(*arrays))(x, kernel)
    narrow.assert_close(products, library, 1e-5)


@pytest.mark.parametrize(
    ("platform", "channels", "size", "stride", "side", "dtype", "convolutions"),
    [
        ("cpu", 64, 3, 1, 4, "float32", 0),  # cropped taps
        ("cpu", 64, 3, 1, 5, "float32", 2),  # the kernel's gradient by products
        ("cpu", 64, 3, 1, 724, "float32", 2),  # 2 · 64 · 724² < 2**26
        ("cpu", 64, 3, 1, 725, "float32", 0),  # Winograd
        ("cpu", 64, 3, 1, 725, "bfloat16", 2),
        ("cuda", 64, 3, 1, 725, "float32", 3),
        ("cuda", 64, 3, 1, 4, "float32", 3),
        ("cpu", 63, 3, 1, 4, "float32", 3),
        ("cpu", 64, 3, 2, 4, "float32", 3),
        ("cpu", 8, 1, 1, 4, "float32", 0),
        ("cuda", 8, 1, 2, 4, "float32", 0),
    ],
)
def test_which_form_is_compiled(platform, channels, size, stride, side, dtype, convolutions):
    def value_and_gradient(x, kernel):
        result, pullback = jax.vjp(
            lambda x, kernel: layers.convolve(x, kernel, stride=stride, dilation=1), x, kernel
        )
        return result, pullback(result)

    x = jax.ShapeDtypeStruct((1, side, side, channels), dtype)
    kernel = jax.ShapeDtypeStruct((size, size, channels, 2), dtype)
    traced = jax.jit(value_and_gradient).trace(x, kernel)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == convolutions


def test_only_training_takes_the_memory_of_winograd():
    def evaluate(x, kernel):
        return layers.convolve(x, kernel, stride=1, dilation=1)

    x = jax.ShapeDtypeStruct((1, 725, 725, 64), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 64, 2), jnp.float32)
    text = jax.jit(evaluate).trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text()
    assert text.count("stablehlo.convolution") == 1


def test_kernels_are_kaiming_normal_by_fan_out():
    kernel = layers.kaiming_normal(jax.random.key(0), 3, 16, 64)
    assert kernel.shape == (3, 3, 16, 64)
    assert kernel.dtype == jnp.float32
    assert jnp.std(kernel) == pytest.approx((2 / (3 * 3 * 64)) ** 0.5, rel=0.03)
    assert jnp.mean(kernel) == pytest.approx(0, abs=0.002)


def test_conv_computes_in_its_dtype_from_float32_parameters():
    conv = layers.Conv(3, 4, 3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert conv.kernel[...].dtype == jnp.float32
    assert conv(jnp.ones((1, 5, 5, 3))).dtype == jnp.bfloat16


def batch_norm_of(*values, dtype=jnp.float32):
    """A new BatchNorm, and its one channel of inputs."""
    x = jnp.asarray(values, dtype).reshape(len(values), 1, 1, 1)
    return layers.BatchNorm(1, rngs=nnx.Rngs(0)), x


def test_batch_norm_in_training_normalises_and_remembers_a_tenth_of_the_batch():
    norm, x = batch_norm_of(0, 4)  # mean 2, biased variance 4
    np.testing.assert_allclose(norm(x, train=True).ravel(), [-1, 1], rtol=2e-6)  # ε = 1e-5
    np.testing.assert_allclose(norm.mean[...], [0.9 * 0 + 0.1 * 2], rtol=1e-6)
    np.testing.assert_allclose(norm.var[...], [0.9 * 1 + 0.1 * 4], rtol=1e-6)


def test_batch_norm_in_evaluation_uses_the_running_statistics_and_keeps_them():
    norm, x = batch_norm_of(0, 4)
    norm.mean[...] = jnp.array([1.0])
    norm.var[...] = jnp.array([9.0])
    np.testing.assert_allclose(norm(x, train=False).ravel(), [-1 / 3, 1], rtol=1e-5)
    assert norm.mean[...] == 1
    assert norm.var[...] == 9


def test_batch_norm_adds_epsilon_to_the_variance():
    norm, x = batch_norm_of(-0.001, 0.001)  # variance 1e-6, beside ε = 1e-5
    expected = 0.001 / (1e-6 + 1e-5) ** 0.5
    np.testing.assert_allclose(norm(x, train=True).ravel(), [-expected, expected], rtol=1e-5)


def test_batch_norm_keeps_a_small_variance_beside_a_large_mean():
    norm, x = batch_norm_of(4096, 4097)  # E[x²] − E[x]² would round to a multiple of 2
    norm(x, train=True)
    np.testing.assert_allclose(norm.var[...], [0.9 * 1 + 0.1 * 0.25], rtol=1e-6)


def test_batch_norm_of_bfloat16_has_float32_arithmetic():
    norm, x = batch_norm_of(1000, 1004, dtype=jnp.bfloat16)  # their mean is no bfloat16
    y = norm(x, train=True)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y.ravel().astype(jnp.float32), [-1, 1])
    assert norm.mean[...].dtype == norm.var[...].dtype == jnp.float32
    np.testing.assert_allclose(norm.mean[...], [100.2], rtol=1e-6)


def test_batch_norm_has_the_gradient_of_its_formula():
    structure, state = nnx.split(layers.BatchNorm(3, rngs=nnx.Rngs(0)))
    state["scale"][...] = jnp.array([1.0, 2.0, -3.0])
    state["bias"][...] = jnp.array([0.5, 0.0, 1.0])
    x, weight = jnp.asarray(narrow.wave((2, 5, 7, 3), 0)), narrow.wave((2, 5, 7, 3), 1)

    def by_formula(state, x):
        mean, variance = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
        unit = (x - mean) / jnp.sqrt(variance + 1e-5)
        return jnp.sum((unit * state["scale"][...] + state["bias"][...]) * weight)

    def by_layer(state, x):
        return jnp.sum(nnx.merge(structure, state)(x, train=True) * weight)

    expected = jax.grad(by_formula, argnums=(0, 1))(state, x)
    found = jax.grad(by_layer, argnums=(0, 1))(state, x)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-5), found, expected)


@pytest.mark.parametrize("size", [(1, 1), (4, 5), (7, 6)])
def test_max_pool_windows_are_centred_on_even_pixels(size):
    height, width = size
    x = -np.arange(1, height * width + 1, dtype=np.float32).reshape(1, height, width, 1)
    expected = [
        [x[0, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max() for j in range(0, width, 2)]
        for i in range(0, height, 2)
    ]
    np.testing.assert_array_equal(layers.max_pool(jnp.asarray(x))[0, ..., 0], expected)


def test_max_pool_has_the_gradient_of_the_library():
    x, weight = jnp.asarray(narrow.wave((2, 7, 6, 3), 0)), narrow.wave((2, 4, 3, 3), 1)

    def library(x):
        return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

    expected = jax.grad(lambda x: jnp.sum(library(x) * weight))(x)
    found = jax.grad(lambda x: jnp.sum(layers.max_pool(x) * weight))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
