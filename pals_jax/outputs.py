"""What every segmentation network of this project returns."""

from typing import NamedTuple

from jaxtyping import Array, Float


class Outputs(NamedTuple):
    """Logits and features on one grid, h = ceil(H / 4) for DeepLabV3+; upsampling the logits is the
    caller's.

    Attributes:
      logits: [B,h,w,K] float32, before the softmax.
      features: [B,h,w,D], the last activation before the classifier.
      auxiliary: [B,h',w',K] float32 logits of the auxiliary head, or None without one.
    """

    logits: Float[Array, "b h w k"]
    features: Float[Array, "b h w d"]
    auxiliary: Float[Array, "b p q k"] | None = None
