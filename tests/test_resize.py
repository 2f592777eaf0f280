import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pals_jax.resize import box_sum, grid_factor, upsample, upsample_by


@pytest.mark.parametrize(
    ("size", "grid", "factor"),
    [((8, 12), (2, 3), 4), ((360, 480), (90, 120), 4), ((7, 7), (7, 7), 1), ((33, 47), (9, 12), 4)],
)
def test_grid_factor(size, grid, factor):
    assert grid_factor(size, grid) == factor


def test_tiny_images_take_a_power_of_two():
    assert grid_factor((9, 9), (3, 3)) == 4  # 3 fits as well


def test_grids_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"3 × 3 cells .* 8 × 12"):
        grid_factor((8, 12), (3, 3))


def test_upsample_is_bilinear_with_half_pixel_centres():
    # Cell centres lie at pixels 0.5 and 2.5: between them quarters, beyond them the border.
    found = upsample(jnp.array([[[[0.0], [1.0]]]]), (2, 4))
    np.testing.assert_allclose(found[0, :, :, 0], [[0, 0.25, 0.75, 1]] * 2)


def test_upsample_crops_where_the_factor_does_not_divide():
    array = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3, 2)), jnp.float32)
    whole = jax.image.resize(array, (2, 12, 12, 2), "linear")
    np.testing.assert_allclose(upsample(array, (10, 11)), whole[:, :10, :11], atol=1e-6)


def test_upsample_by_keeps_the_grid_of_a_column_when_cropped():
    column = jnp.array([[0.0, 1.0, 3.0]])[..., None, None]
    expected = [0, 0.25, 0.75, 1.5, 2.5, 3]
    np.testing.assert_array_equal(upsample_by(column, 2, (6, 2))[0, :, 1, 0], expected)
    np.testing.assert_array_equal(upsample_by(column, 2, (5, 1))[0, :, 0, 0], expected[:5])


def test_upsample_goes_on_to_the_size_before_down_sampling():
    # 36 pixels, 12 after down-sampling by 3, 3 cells of the network: 12 pixels a cell, not 16.
    array = jnp.asarray(np.random.default_rng(3).normal(size=(1, 3, 3, 2)), jnp.float32)
    expected = jax.image.resize(array, (1, 36, 36, 2), "linear")
    np.testing.assert_allclose(upsample(array, (36, 36), downsample=3), expected, atol=1e-6)


def test_what_lies_in_the_padding_does_not_reach_the_valid_pixels():
    rng = np.random.default_rng(2)
    array = jnp.asarray(rng.normal(size=(2, 3, 4, 2)), jnp.float32)
    valid = np.zeros((2, 12, 16), bool)
    valid[0, :7, :13] = valid[1] = True
    found = upsample(array.at[0, 2:].set(jnp.nan), (12, 16), valid)
    np.testing.assert_allclose(found[:1, :7, :13], upsample(array[:1, :2], (7, 13)), atol=1e-6)
    np.testing.assert_allclose(found[1:], upsample(array[1:], (12, 16)), atol=1e-6)


def test_box_sum_keeps_the_total():
    array = jnp.asarray(np.random.default_rng(1).random((2, 5, 7, 3)), jnp.float32)
    found = box_sum(array, 3)
    assert found.shape == (2, 2, 3, 3)
    np.testing.assert_allclose(found.sum((1, 2)), array.sum((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found[0, 0, 0], array[0, :3, :3].sum((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(found[1, 1, 2], array[1, 3:, 6:].sum((0, 1)), rtol=1e-5)
