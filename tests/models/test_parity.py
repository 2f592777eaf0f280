from pathlib import Path

import jax
import jax.numpy as jnp
import narrow
import numpy as np
import pytest

from pals_jax import models


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_every_stage_is_what_pytorch_once_computed(output_stride):
    """Written by `torch_reference.py`; PyTorch itself is not needed."""
    model = narrow.build(output_stride=output_stride, auxiliary=True)
    ours = narrow.stages(model, narrow.images(1, 65, 99))
    with np.load(Path(__file__).with_name("torch_parity.npz")) as frozen:
        of_stride = f"{output_stride}/"
        theirs = {
            name.removeprefix(of_stride): frozen[name]
            for name in frozen.files
            if name.startswith(of_stride)
        }
    narrow.assert_close(ours, theirs, 1e-4)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_every_stage_is_what_pytorch_computes(backbone, output_stride):
    pytest.importorskip("torch")
    import torch_reference

    model = narrow.build(f"deeplabv3plus_{backbone}", output_stride=output_stride, auxiliary=True)
    _, params, statistics = models.split(model)
    images = narrow.images(1, 65, 99)
    network = torch_reference.load(backbone, output_stride, params, statistics)
    narrow.assert_close(narrow.stages(model, images), torch_reference.stages(network, images), 1e-4)


def test_a_training_step_is_pytorchs():
    """Outputs, gradients and running means; PyTorch's running variances are the unbiased ones.

    In float64 up to the classifiers, because in float32 a ReLU near 0 may switch, and gradients
    jump.
    """
    torch = pytest.importorskip("torch")
    import torch_reference

    apply, params, statistics = models.split(narrow.build(auxiliary=True, dtype=jnp.float64))
    images = narrow.images(3, 65, 99).astype(np.float64)

    def loss(params, statistics, images):
        outputs, new = apply(params, statistics, images, train=True)
        total = jnp.mean(outputs.logits**2) + jnp.mean(outputs.auxiliary**2)
        return total, (outputs._asdict(), new)

    with jax.enable_x64(True):
        double = jax.tree.map(lambda a: a.astype(jnp.float64), (params, statistics))
        gradients, (outputs, new) = jax.jit(jax.grad(loss, has_aux=True))(*double, images)

    network = torch_reference.load("resnet18", 16, params, statistics).to(torch.float64).train()
    theirs = network(torch_reference.to_nchw(images))
    ((theirs["logits"] ** 2).mean() + (theirs["auxiliary"] ** 2).mean()).backward()

    theirs = {name: torch_reference.to_nhwc(theirs[name]) for name in outputs}
    narrow.assert_close(outputs, theirs, 1e-5)
    ours = torch_reference.to_torch(gradients, {})
    narrow.assert_close(ours, {name: p.grad for name, p in network.named_parameters()}, 1e-5)
    means = {name: a for name, a in torch_reference.to_torch({}, new).items() if "mean" in name}
    narrow.assert_close(means, {name: network.state_dict()[name] for name in means}, 1e-5)
