import jax
import jax.numpy as jnp
import narrow
import numpy as np
import pytest
from flax import nnx

from pals_jax import models
from pals_jax.models import deeplab
from pals_jax.resize import upsample


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("deeplabv3plus_resnet18", 11_176_512),
        ("deeplabv3plus_resnet34", 21_284_672),
        ("deeplabv3plus_resnet50", 23_508_032),
        ("deeplabv3plus_resnet101", 42_500_160),
    ],
)
def test_a_backbone_has_as_many_parameters_as_torchvisions_without_fc(name, parameters):
    model = nnx.eval_shape(lambda: models.create(name, 5, rngs=nnx.Rngs(0)))
    leaves = jax.tree.leaves(nnx.state(model.backbone, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == parameters


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(1, 1), (65, 99)])
def test_logits_and_features_share_the_grid_of_stride_four(output_stride, size):
    model = narrow.shapes(output_stride=output_stride, auxiliary=True)
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    outputs = nnx.eval_shape(lambda model, x: model(x), model, images)
    grid = tuple(-(-length // 4) for length in size)
    layer3 = tuple(-(-length // min(output_stride, 16)) for length in size)
    assert outputs.logits.shape == (2, *grid, 5)
    assert outputs.features.shape == (2, *grid, 8)
    assert outputs.auxiliary.shape == (2, *layer3, 5)
    assert {output.dtype for output in outputs} == {jnp.dtype(jnp.float32)}


def test_logits_are_float32_in_every_head_of_a_bfloat16_network():
    model = narrow.shapes(auxiliary=True, dtype=jnp.bfloat16)
    outputs = nnx.eval_shape(lambda model, x: model(x), model, narrow.images(1, 32, 32))
    assert outputs.logits.dtype == outputs.auxiliary.dtype == jnp.float32
    assert outputs.features.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype(jnp.float32)}


def test_there_is_no_auxiliary_output_unless_asked_for():
    model = narrow.shapes()
    outputs = nnx.eval_shape(lambda model, x: model(x), model, narrow.images(1, 32, 32))
    assert outputs.auxiliary is None


@pytest.mark.parametrize(
    ("output_stride", "rates"), [(8, (12, 24, 36)), (16, (6, 12, 18)), (32, (3, 6, 9))]
)
def test_aspp_rates(output_stride, rates):
    aspp = narrow.shapes(output_stride=output_stride).aspp
    assert tuple(getattr(aspp, f"dilated{i}").conv.dilation for i in (1, 2, 3)) == rates


def test_channels_of_the_heads_at_full_width():
    model = nnx.eval_shape(
        lambda: models.create("deeplabv3plus_resnet50", 19, auxiliary=True, rngs=nnx.Rngs(0))
    )
    assert model.aspp.project.conv.kernel.shape == (1, 1, 5 * 256, 256)
    assert model.decoder.low_level.conv.kernel.shape == (1, 1, 256, 48)
    assert model.decoder.block1.conv.kernel.shape == (3, 3, 256 + 48, 256)
    assert model.decoder.block2.conv.kernel.shape == (3, 3, 256, 256)
    assert model.auxiliary.block.conv.kernel.shape == (3, 3, 1024, 256)


def test_the_classifier_starts_small_and_without_bias():
    layer = deeplab.classifier(100, 30, rngs=nnx.Rngs(0))
    assert jnp.std(layer.kernel[...]) == pytest.approx(0.01, rel=0.05)
    np.testing.assert_array_equal(layer.bias[...], jnp.zeros(30))


def test_logits_are_the_classifier_on_the_features():
    model = narrow.build()
    outputs = narrow.evaluate(model, narrow.images(1, 40, 72))
    assert isinstance(outputs, models.Outputs)
    np.testing.assert_allclose(model.classifier(outputs.features), outputs.logits, atol=1e-6)


def test_spatial_mean_is_over_valid_cells_only():
    x = jnp.array([[[1.0, 2.0], [4.0, jnp.nan]]])[..., None]
    valid = jnp.array([[[True, True], [True, False]]])
    np.testing.assert_allclose(deeplab.spatial_mean(x, valid), [[[[7 / 3]]]], rtol=1e-6)
    np.testing.assert_array_equal(deeplab.spatial_mean(x, jnp.zeros_like(valid)), [[[[0]]]])
    np.testing.assert_array_equal(deeplab.spatial_mean(x[:, :1], valid[:, :1]), [[[[1.5]]]])
    np.testing.assert_array_equal(deeplab.spatial_mean(x[:, :1], None), [[[[1.5]]]])


def test_spatial_mean_of_bfloat16_is_summed_in_float32():
    x = jnp.ones((1, 32, 32, 1), jnp.bfloat16)  # a bfloat16 sum of ones stops at 256
    np.testing.assert_array_equal(deeplab.spatial_mean(x, None), [[[[1]]]])


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["deeplabv3plus_resnet18", "deeplabv3plus_resnet50"])
def test_padding_changes_nothing(name, output_stride):
    model = narrow.build(name, output_stride=output_stride)
    small = narrow.images(1, 41, 71)
    padded = np.full((2, 64, 96, 3), 1e6, np.float32)  # whatever the padding holds
    padded[0, :41, :71] = small[0]
    padded[1] = narrow.images(1, 64, 96)
    valid = np.zeros(padded.shape[:3], bool)
    valid[0, :41, :71] = valid[1] = True
    found = narrow.evaluate(model, padded, valid)
    alone, whole = narrow.evaluate(model, small), narrow.evaluate(model, padded[1:])
    narrow.assert_close(found.features[:1, :11, :18], alone.features, 1e-5)
    narrow.assert_close(found.features[1:], whole.features, 1e-5)
    logits = upsample(found.logits, (64, 96), valid)
    narrow.assert_close(logits[:1, :41, :71], upsample(alone.logits, (41, 71)), 1e-5)


def test_shifting_an_image_by_the_output_stride_shifts_features_by_four_cells(monkeypatch):
    """Away from the borders, and but for the image-level mean, which sees all."""
    monkeypatch.setattr(deeplab, "spatial_mean", lambda x, valid: jnp.zeros((1, 1, 1, x.shape[3])))
    model, scene = narrow.build(), narrow.images(1, 16, 2048 + 16)
    reach = 640  # of the receptive field to either side, in pixels
    run = nnx.jit(lambda model, images: model(images).features)
    still, moved = run(model, scene[:, :, 16:]), run(model, scene[:, :, :-16])
    inner = slice(reach // 4, (2048 - reach) // 4 - 4)
    expected = still[:, :, inner]
    result = moved[:, :, inner.start + 4 : inner.stop + 4]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * jnp.max(expected).item())
    # The fact is about exactly four cells.
    assert jnp.max(jnp.abs(moved[:, :, inner] - expected)) > 0.1 * jnp.max(expected)


def test_bfloat16_is_close_to_float32():
    images = narrow.images(1, 40, 72)
    single = narrow.evaluate(narrow.build(), images)
    half = narrow.evaluate(narrow.build(dtype=jnp.bfloat16), images)
    narrow.assert_close(half, single, 0.03)


@pytest.mark.parametrize(
    ("images", "valid", "message"),
    [
        (np.zeros((1, 8, 8, 3), np.uint8), None, "images are uint8"),
        (np.zeros((8, 8, 3), np.float32), None, "expected normalised floats"),
        (np.zeros((1, 3, 8, 8), np.float32), None, "expected normalised floats"),
        (np.zeros((1, 8, 8, 3), np.float32), np.ones((1, 2, 2), bool), "expected bool"),
        (np.zeros((1, 8, 8, 3), np.float32), np.ones((1, 8, 8), np.float32), "valid is float32"),
    ],
)
def test_arguments_are_checked(images, valid, message):
    model = narrow.shapes()
    with pytest.raises(ValueError, match=message):
        model(images, valid=valid)


def test_batch_norm_cannot_train_on_one_image():
    model = narrow.shapes()
    with pytest.raises(ValueError, match="a training batch has 1 image"):
        nnx.eval_shape(lambda model, x: model(x, train=True), model, narrow.images(1, 32, 32))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"no model 'unet'.*deeplabv3plus_resnet18.*_resnet101"):
        models.create("unet", 5, rngs=nnx.Rngs(0))
