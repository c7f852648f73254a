"""Recurrent Interface Network: attention on a few latents instead of on all the pixels.

Jabri, Fleet, Chen, "Scalable Adaptive Computation for Iterative Generation", arXiv 2212.11972; the
sizes used for noise scheduling are those of Chen, arXiv 2301.10972. Two sets of tokens:

  tape      one token per patch of the image: many, cheap, never attend to one another;
  latents   a fixed number of learned tokens, with one for the noise level and one for the class.

Each block moves information from the tape to the latents (read), works on the latents (compute)
and moves it back (write):

  read      latents += attention(LN(latents), tape);   latents += MLP(LN(latents))
  compute   latents += self-attention(LN(latents));    latents += MLP(LN(latents));   K times
  write     tape += attention(LN(tape), latents);      tape += MLP(LN(tape))

Attention costs tokens x latents, linear in the number of pixels. The final latents are the
network's memory: given back at the next call (the next sampling step), they let it go on where it
stopped. This is "latent self-conditioning".
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Int

from noise_sched.networks import checks, remat
from noise_sched.networks.image_network import ImageNetwork
from noise_sched.networks.layers import (
    MLP,
    Dense,
    LayerNorm,
    NoiseEmbedding,
    TransformerLayer,
    uniform,
)
from noise_sched.networks.positions import grid_code
from noise_sched.networks.scanning import scan_layers

POSITION_ENCODINGS = ("learned", "sin_cos", "sin_cos_plus_learned")

_small_normal = nn.initializers.truncated_normal(0.02)


class RIN(ImageNetwork, kw_only=True):
    """Recurrent Interface Network (arXiv 2212.11972), an image-to-image network with a memory.

    `RIN(...).apply({"params": params}, x, noise_cond, label, memory)` returns `(out, memory)`.
    Parameters are float32.

    Attributes: those of `ImageNetwork` (the augmentation label is mapped, without bias, from zero, and
      added to the noise token), and
      patch_size: side of the square patches; divides height and width.
      num_layers: one entry per block, the number K of its compute layers. A block with K = 0 only
        reads: it has no write either.
      latent_slots: latents in all, the appended noise and class tokens included.
      latent_dim: features of a latent.
      latent_mlp_ratio: hidden features of the latents' MLPs, per feature.
      latent_heads: heads of the self-attention in compute.
      tape_dim: features of a tape token.
      tape_mlp_ratio: hidden features of the tape's MLPs, per feature; 0 for no MLP.
      rw_heads: heads of the attention in read and write, whose inner width is the smaller of
        `latent_dim` and `tape_dim`.
      drop_units: dropout rate inside the MLPs of compute.
      drop_path: probability, per example, of leaving out a residual branch of compute.
      time_on_latent: append the noise token to the latents; otherwise to the tape.
      cond_on_latent: append the class token to the latents; otherwise to the tape.
      cond_tape_writable: tokens appended to the tape are written like the others; otherwise they
        are only read.
      tape_pos_encoding: "learned", "sin_cos" (fixed) or "sin_cos_plus_learned".
      xattn_enc_ln: normalise the keys and values of read and write. The published networks do not.
      dtype: type of the matrix products inside attention and MLPs. Parameters, embeddings, the
        tokens between layers, layer-norm statistics and softmax are float32.
      remat: what the backward pass keeps of a layer: "none" (all), "layer" or "dots", see `remat`.
      scan: compile the compute layers of a block once. Neither parameters nor numbers change, but for
        the draws of dropout.
    """

    patch_size: int
    num_layers: Sequence[int]
    latent_slots: int
    latent_dim: int
    latent_mlp_ratio: int = 4
    latent_heads: int
    tape_dim: int
    tape_mlp_ratio: int
    rw_heads: int
    drop_units: float = 0.0
    drop_path: float = 0.0
    time_on_latent: bool = True
    cond_on_latent: bool = True
    cond_tape_writable: bool = False
    tape_pos_encoding: str = "learned"
    xattn_enc_ln: bool = False
    dtype: DTypeLike = jnp.float32
    remat: str = "none"
    scan: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        noise_cond: Float[Array, " batch"],
        label: Int[Array, " batch"] | None,
        memory: Float[Array, "batch slots dim"],
        train: bool = False,
        augment_label: Float[Array, "batch augment"] | None = None,
    ) -> tuple[Float[Array, "batch height width channels"], Float[Array, "batch slots dim"]]:
        """One evaluation of the network.

        Args:
          x: images, scaled by the caller.
          noise_cond: one scalar per noise level, scaled by the caller (published: 1000 γ).
          label: class of each image, -1 for no class; None if the network has no classes.
          memory: the memory returned by an earlier call, or `initial_memory(batch)`.
          train: drop units and paths; needs a "dropout" key if either rate is positive.
          augment_label: the augmentation of each image, [batch, augment_dim]; None for zeros, none.

        Returns:
          The output, as large as x, and the memory for the next call, both float32. The final tape
          is sown as "tape" in the collection "intermediates".

        Raises:
          ValueError: shapes other than the module was made for, or a label that is missing or not
            expected.
        """
        self.check_inputs(x, label, augment_label)
        self._check_memory(x, memory)
        batch, (height, width), p = len(x), self._grid, self.patch_size

        # Tape: a linear map of each patch, normalised, then its position added.
        patches = x.astype(jnp.float32).reshape(batch, height, p, width, p, self.channels)
        tape = nn.DenseGeneral(
            self.tape_dim,
            axis=(2, 4, 5),
            # Glorot's limit for the convolution that this is, kernel [p, p, channels, tape_dim].
            kernel_init=uniform(math.sqrt(6 / (p * p * (self.channels + self.tape_dim)))),
            name="stem",
        )(patches)
        tape = LayerNorm(name="stem_norm")(tape.reshape(batch, height * width, self.tape_dim))
        tape = tape + self._tape_position()[None]

        # Tokens for the noise level and the class go to the latents or to the tape.
        on_latents, on_tape = [], []
        dim = self.latent_dim if self.time_on_latent else self.tape_dim
        token = NoiseEmbedding(dim, name="noise_embedding")(noise_cond.astype(jnp.float32))
        if self.augment_dim:
            if augment_label is None:
                augment_label = jnp.zeros((batch, self.augment_dim))
            zero = nn.initializers.zeros
            augment = Dense(dim, use_bias=False, kernel_init=zero, name="augment_embedding")
            token = token + augment(augment_label.astype(jnp.float32))
        (on_latents if self.time_on_latent else on_tape).append(token[:, None])
        if self.num_classes:
            dim = self.latent_dim if self.cond_on_latent else self.tape_dim
            # The row of -1 is all zeros, so that "no class" is the bias alone.
            one_hot = jax.nn.one_hot(label, self.num_classes, dtype=jnp.float32)
            token = Dense(dim, name="class_embedding")(one_hot)
            (on_latents if self.cond_on_latent else on_tape).append(token[:, None])
        if self.cond_tape_writable:
            tape, on_tape = jnp.concatenate([tape, *on_tape], axis=1), []

        # Latents: learned, plus a projection of the memory that starts at zero. The projection is
        # applied to a memory of zeros too, where it gives a learned constant.
        shape = (self._learned_slots, self.latent_dim)
        learned = self.param("latents", _small_normal, shape, jnp.float32)
        learned = jnp.broadcast_to(learned, (batch, *learned.shape))
        latents = jnp.concatenate([learned, *on_latents], axis=1)
        memory = memory.astype(jnp.float32)
        h = LayerNorm(name="memory_mlp_norm")(memory)
        h = MLP(self.latent_mlp_ratio, dtype=self.dtype, name="memory_mlp")(h)
        memory = memory + h.astype(jnp.float32)
        memory = LayerNorm(scale_init=nn.initializers.zeros, name="memory_norm")(memory)
        latents = latents + memory

        across = dict(
            heads=self.rw_heads,
            inner_dim=min(self.latent_dim, self.tape_dim),
            norm_context=self.xattn_enc_ln,
            dtype=self.dtype,
        )
        for i, depth in enumerate(self.num_layers):
            seen = jnp.concatenate([tape, *on_tape], axis=1) if on_tape else tape
            read = self._layer(mlp_ratio=self.latent_mlp_ratio, **across, name=f"read_{i}")
            latents = read(latents, seen, train)
            latents = self._compute([f"compute_{i}_{j}" for j in range(depth)], latents, train)
            if depth:
                write = self._layer(mlp_ratio=self.tape_mlp_ratio, **across, name=f"write_{i}")
                tape = write(tape, latents, train)
        self.sow("intermediates", "tape", tape)

        # Output: each patch's token, mapped linearly to its pixels.
        tape = LayerNorm(name="output_norm")(tape[:, : height * width])
        pixels = Dense(p * p * self.channels, name="output")(tape)
        pixels = pixels.reshape(batch, height, width, p, p, self.channels)
        return pixels.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape), latents

    def _compute(self, names: list[str], latents: Float[Array, "batch slots dim"], train: bool):
        """Self-attention and MLPs of the latents, one layer after the other."""
        fields: dict[str, Any] = dict(
            heads=self.latent_heads,
            inner_dim=self.latent_dim,
            mlp_ratio=self.latent_mlp_ratio,
            drop_units=self.drop_units,
            drop_path=self.drop_path,
            dtype=self.dtype,
        )
        if self.scan and len(names) > 1 and not self.is_initializing():
            layer = TransformerLayer(**fields, parent=None)
            random = train and (self.drop_units or self.drop_path)
            keys = jax.random.split(self.make_rng("dropout"), len(names)) if random else None

            def apply(params, latents, key) -> Any:
                rngs = {} if key is None else {"dropout": key}
                return layer.apply({"params": params}, latents, None, train, rngs=rngs)

            params = [self.get_variable("params", name) for name in names]
            others = [None if keys is None else keys[j] for j in range(len(names))]
            return scan_layers(apply, params, latents, others, remat=self.remat)[0]
        for name in names:
            latents = self._layer(**fields, name=name)(latents, None, train)
        return latents

    @property
    def _layer(self) -> type[TransformerLayer]:
        return remat.module(TransformerLayer, self.remat, static_argnums=(3,))

    @nn.nowrap
    def initial_memory(self, batch: int) -> Float[Array, "{batch} slots dim"]:
        """The memory of a network that has not been called yet: zeros."""
        return jnp.zeros((batch, self.latent_slots, self.latent_dim), jnp.float32)

    @property
    def image_rows(self) -> int:
        """The rows of patches: the tape is split with them."""
        return self._grid[0]

    @property
    def partition_rules(self) -> Sequence[tuple[str, tuple[str | None, ...]]]:
        """The positions lie where their tokens do."""
        return ((r"tape_position$", ("tokens", "fsdp")),)

    @nn.nowrap
    def validate(self) -> None:
        """As `ImageNetwork.validate`, and the fields of this network."""
        super().validate()
        least = dict(patch_size=1, latent_slots=1, latent_dim=1, latent_mlp_ratio=1)
        least |= dict(latent_heads=1, tape_dim=1, rw_heads=1, tape_mlp_ratio=0)
        checks.check_least(self, least)
        height, width = checks.height_width(self.image_size)
        if height % self.patch_size or width % self.patch_size:
            common = math.gcd(height, width)
            fitting = [d for d in range(1, common + 1) if common % d == 0]
            raise ValueError(
                f"patch_size={self.patch_size} does not divide the image of {height} x {width} "
                f"pixels: use one of {', '.join(map(str, fitting))}, or another image_size."
            )
        if not self.num_layers or min(self.num_layers) < 0 or not any(self.num_layers):
            raise ValueError(
                f"num_layers needs one entry per block, the number of its compute layers, none "
                f"negative and at least one positive, but got {self.num_layers}: "
                f"for example (4, 4, 4, 4)."
            )
        inner = min(self.latent_dim, self.tape_dim)
        _check_heads("latent_heads", self.latent_heads, "latent_dim", self.latent_dim)
        _check_heads("rw_heads", self.rw_heads, "the smaller of latent_dim and tape_dim", inner)
        noise_field = "latent_dim" if self.time_on_latent else "tape_dim"
        if getattr(self, noise_field) % 8:
            raise ValueError(
                f"{noise_field}={getattr(self, noise_field)} must be a multiple of 8: the noise "
                f"token is made from dim / 8 pairs of sine and cosine."
            )
        appended = self.latent_slots - self._learned_slots
        if self._learned_slots < 1:
            raise ValueError(
                f"latent_slots={self.latent_slots} leaves no learned latent beside the appended "
                f"noise and class tokens: use at least {appended + 1}."
            )
        checks.check_rates(self, ("drop_units", "drop_path"))
        checks.check_known("remat", self.remat, remat.REMATS)
        encoding = self.tape_pos_encoding
        checks.check_known("tape_pos_encoding", encoding, POSITION_ENCODINGS)
        if encoding != "learned" and self.tape_dim % 4:
            raise ValueError(
                f"tape_dim={self.tape_dim} must be a multiple of 4 for tape_pos_encoding="
                f"'{encoding}', or use 'learned'."
            )

    @property
    def _grid(self) -> tuple[int, int]:
        height, width = checks.height_width(self.image_size)
        return height // self.patch_size, width // self.patch_size

    @property
    def _learned_slots(self) -> int:
        with_class = self.cond_on_latent and self.num_classes > 0
        return self.latent_slots - self.time_on_latent - with_class

    def _tape_position(self) -> Float[Array, "tokens dim"]:
        height, width = self._grid
        shape = (height * width, self.tape_dim)
        if self.tape_pos_encoding == "learned":
            return self.param("tape_position", _small_normal, shape, jnp.float32)
        code = grid_code(height, width, self.tape_dim)
        if self.tape_pos_encoding == "sin_cos":
            return code
        return code + self.param("tape_position", nn.initializers.zeros, shape, jnp.float32)

    @nn.nowrap
    def _check_memory(self, x, memory) -> None:
        slots = (x.shape[0], self.latent_slots, self.latent_dim)
        if memory.shape != slots:
            raise ValueError(
                f"The memory must have shape [batch, latent_slots, latent_dim] = {list(slots)}, "
                f"but has {list(memory.shape)}: start with initial_memory({x.shape[0]})."
            )


def _check_heads(heads_field: str, heads: int, dim_field: str, dim: int) -> None:
    if dim % heads:
        fitting = [h for h in range(1, dim + 1) if dim % h == 0]
        nearest = min(fitting, key=lambda h: abs(h - heads))
        raise ValueError(
            f"{heads_field}={heads} does not divide {dim_field} ({dim}): use for example {nearest}."
        )
