"""The convolution of fewer products against the library's."""

import jax
import jax.numpy as jnp
import narrow
import numpy as np
import pytest

from pals_jax.models import winograd


def library(x, kernel, dilation):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=[(dilation, dilation)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def test_one_row_by_hand():
    # Taps 1, 2, 3 over the pixels 1, 2, 4: (0, 1, 2), (1, 2, 4) and (2, 4, 0) times (1, 2, 3).
    x = jnp.array([1.0, 2, 4]).reshape(1, 1, 3, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, :, 0, 0].set(jnp.array([1.0, 2, 3]))
    np.testing.assert_allclose(winograd.convolve(x, kernel, 1).ravel(), [8, 17, 10], rtol=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "dilation"), [(1, 1, 1), (4, 5, 1), (9, 2, 2), (7, 8, 2), (5, 6, 3)]
)
def test_values_and_gradients_are_the_library_s(height, width, dilation):
    x = narrow.wave((2, height, width, 5), 0)
    kernel = narrow.wave((3, 3, 5, 4), 1)
    cotangent = narrow.wave((2, height, width, 4), 2)

    @jax.jit
    def ours():
        result = winograd.convolve(x, kernel, dilation)
        return result, *winograd.gradients(x, kernel, cotangent, dilation)

    @jax.jit
    def theirs():
        result, pullback = jax.vjp(lambda *given: library(*given, dilation), x, kernel)
        return result, *pullback(cotangent)

    narrow.assert_close(ours(), theirs(), 1e-5)


@pytest.mark.parametrize("dilation", [1, 2])
def test_rounding_of_many_channels(dilation):
    x, kernel = narrow.wave((2, 12, 12, 256), 0), narrow.wave((3, 3, 256, 8), 1)
    found = winograd.convolve(x, kernel, dilation)
    with jax.enable_x64(True):
        exact = library(jnp.asarray(x, jnp.float64), jnp.asarray(kernel, jnp.float64), dilation)
    narrow.assert_close([found], [exact], 2e-6)


def test_no_pixel_is_seen_beyond_its_window():
    # A tile of inputs reaches beyond the windows of its outputs, their sums must not.
    x = np.ones((1, 8, 8, 3), np.float32)
    x[0, 4:] = np.nan
    kernel = np.ones((3, 3, 3, 2), np.float32)
    found = winograd.convolve(jnp.asarray(x), jnp.asarray(kernel), 1)
    assert np.isfinite(found[0, :3]).all()


@pytest.mark.parametrize(
    ("side", "channels", "dilation", "dtype", "expected"),
    [
        (64, 256, 1, "float32", True),
        (63, 256, 1, "float32", False),  # 63² 64 256 < 2**26
        (64, 256, 1, "bfloat16", False),
        (64, 256, 12, "float32", True),  # 72² 16 of 64² 36 multiplications
        (50, 512, 12, "float32", False),  # 72² 16 of 50² 36
    ],
)
def test_where_it_pays(side, channels, dilation, dtype, expected):
    x = jax.ShapeDtypeStruct((1, side, side, channels), dtype)
    kernel = jax.ShapeDtypeStruct((3, 3, channels, 64), dtype)
    assert winograd.pays(x, kernel, dilation) == expected
