"""The part that all networks share: the images and labels that they take, and the checks of both."""

from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array

from noise_sched.networks import checks


class ImageNetwork(nn.Module, kw_only=True):
    """A network from images to images; a subclass adds its sizes and `__call__`.

    Building one checks the whole configuration and costs nothing else. Lists become tuples, as in configs,
    so that the module can be hashed (a static argument of jit).

    Attributes:
      image_size: height and width of the images, or one number for both.
      channels: of the images, in and out.
      num_classes: number of class labels; 0 for a network without labels.
      augment_dim: length of the augmentation label; 0 for a network without that input.

    Raises:
      ValueError: sizes that do not fit one another, rates outside [0, 1), unknown names.
    """

    image_size: int | Sequence[int]
    channels: int = 3
    num_classes: int
    augment_dim: int = 0

    def __post_init__(self):
        self.image_size = checks.height_width(self.image_size)
        for field, value in list(vars(self).items()):
            if isinstance(value, list):
                setattr(self, field, tuple(value))
        self.validate()
        super().__post_init__()

    @property
    def image_rows(self) -> int | None:
        """Into how many parts an image can be split over devices, by rows; None if it cannot."""
        return None

    @property
    def partition_rules(self) -> Sequence[tuple[str, tuple[str | None, ...]]]:
        """How parameters are split over the mesh where their shapes do not say it best.

        Pairs of a regular expression, found in a parameter's path, and for each of its dimensions an axis
        of the mesh or None; see `training.partitioning.state_shardings`.
        """
        return ()

    @nn.nowrap
    def validate(self) -> None:
        """Check that the configuration makes sense; called whenever a network is built.

        Raises:
          ValueError: it does not; the message says what to change.
        """
        checks.check_least(self, dict(channels=1, num_classes=0, augment_dim=0))

    @nn.nowrap
    def check_inputs(self, x: Array, label: Array | None, augment_label: Array | None) -> None:
        """Check the inputs of a call against the configuration.

        Raises:
          ValueError: images or labels of another shape, or labels that are missing or not expected.
        """
        name = type(self).__name__
        expected = (*checks.height_width(self.image_size), self.channels)
        if x.ndim != 4 or x.shape[1:] != expected:
            raise ValueError(
                f"This {name} was made for images [batch, height, width, channels] = "
                f"[batch, {', '.join(map(str, expected))}], but x has shape {list(x.shape)}: "
                f"resize the images or change image_size and channels."
            )
        if self.num_classes and label is None:
            raise ValueError(
                f"This {name} has {self.num_classes} classes, but label is None: pass one integer "
                f"per image, -1 for no class."
            )
        if not self.num_classes and label is not None:
            raise ValueError(
                f"This {name} has no classes (num_classes=0), but got labels: pass label=None or "
                f"set num_classes."
            )
        if augment_label is None:
            return
        if not self.augment_dim:
            raise ValueError(
                f"This {name} has no input for augmentations (augment_dim=0), but got augment_label "
                f"of shape {list(augment_label.shape)}: pass augment_label=None or set augment_dim="
                f"{augment_label.shape[-1]}."
            )
        if augment_label.shape != (len(x), self.augment_dim):
            raise ValueError(
                f"augment_label must have shape [batch, augment_dim] = [{len(x)}, {self.augment_dim}]"
                f", but has {list(augment_label.shape)}: change it or augment_dim, or pass None for "
                f"zeros."
            )
