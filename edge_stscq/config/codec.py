"""Configuration of a codec, as a frozen and validated model saved beside the weights.

A face is `T` tokens in 1 to 15 layers. Each layer brings *identity* tokens, read from a recogniser's embedding, and
*spatial* tokens, read from pooled regions of the picture. Token order is layer by layer, identity before spatial, so
that any prefix of layers is a valid code.

Format 2 of the file holds the layers as a list. Format 1, which had three fields `basic`, `middle` and `enhanced` in
its place and no `format_version`, is still read.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge_stscq._limits import MAX_LAYERS
from edge_stscq.errors import EdgeError

CROP = 128
"""Side of the canonical crop in pixels."""
EMBEDDING = 128
"""Dimensions of the identity embedding."""
TRUNK = (32, 64, 128, 256, 512, 1024)
"""Channels of the recogniser whose trunk both encoders start from: its stem, then at 112, 56, 28, 14 and 7 px."""
_FORMAT_1_LAYERS = ("basic", "middle", "enhanced")
"""The fields that format 1 had in place of a list."""


class LayerConfig(BaseModel):
    """Numbers of tokens of each kind that one layer adds.

    `identity_dims` principal components of the embedding are spread over the layer's identity tokens: fewer components
    a token are coded more finely, so the first layer carries the strongest half and the next one the rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,15}$", description='for people, e.g. "basic"')
    identity: int = Field(ge=0, le=256)
    spatial: int = Field(ge=0, le=256)
    identity_dims: int = Field(default=0, ge=0, le=EMBEDDING)
    spatial_dims: int = Field(
        default=0,
        ge=0,
        description="principal components of the picture spread over the spatial tokens; 0 is `dim` for each token",
    )
    entries: int | None = Field(
        default=None, ge=2, description="entries of this layer's codebooks that may be used; null is all of them"
    )

    @property
    def tokens(self) -> int:
        return self.identity + self.spatial


class ConvConfig(BaseModel):
    """One convolution of the integer student: a clipped ReLU follows it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outputs: int = Field(ge=1, le=1024)
    kernel: Literal[1, 3, 5] = 3
    stride: Literal[1, 2] = 1
    depthwise: bool = False


class CodecConfig(BaseModel):
    """Shape of the codebooks `books[M, T, K, D]` and of the networks around them.

    `groups=1` switches switching off and `token_specific=False` shares one codebook between all positions of a group:
    together they are the paper's controls.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[2] = 2
    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    groups: int = Field(ge=1, le=256, description="M, codebook groups switched per image")
    entries: int = Field(ge=2, le=4096, description="K, entries of a codebook")
    dim: int = Field(ge=1, le=64, description="D, dimensions of a codeword")
    layers: tuple[LayerConfig, ...] = Field(min_length=1, max_length=MAX_LAYERS)
    token_specific: bool = True
    group_rule: Literal["router", "nearest"] = "router"
    regional_pooling: bool = True
    regions: int = Field(default=40, ge=1, le=256, description="windows that the feature map is pooled over")
    thumbnail: int = Field(
        default=0, ge=0, le=32, description="side of the small picture that spatial tokens see beside the regions"
    )
    features: int = Field(default=32, ge=1, le=256, description="channels of the 16 x 16 map that is pooled")
    teacher_width: int = Field(default=128, ge=8, le=512, description="channels of the teacher's last blocks")
    student_width: int = Field(default=96, ge=8, le=256, description="channels of the student's last blocks")
    student_trunk: tuple[int, int, int, int, int, int] = Field(
        default=(16, 32, 56, 128, 368, 704),
        description="channels of the student's identity trunk: its stem, then at 112, 56, 28, 14 and 7 px",
    )
    student_layers: tuple[ConvConfig, ...] = Field(
        default=(), max_length=64, description="convolutions of a student made for integers; none: the float32 student"
    )
    decoder_channels: tuple[int, ...] = (128, 96, 48, 24)
    style_dim: int = Field(default=256, ge=8, le=1024)

    @model_validator(mode="before")
    @classmethod
    def _from_format_1(cls, content: Any) -> Any:
        """A file of format 1 as one of format 2; anything else as it is."""
        if not isinstance(content, dict) or content.keys() & {"format_version", "layers"}:
            return content
        if not content.keys() >= set(_FORMAT_1_LAYERS):
            return content
        kept = {name: value for name, value in content.items() if name not in _FORMAT_1_LAYERS}
        old = {name: content[name] for name in _FORMAT_1_LAYERS}
        layers = [{"name": name, **layer} if isinstance(layer, dict) else layer for name, layer in old.items()]
        return kept | {"layers": layers}

    @model_validator(mode="after")
    def _consistent(self) -> "CodecConfig":
        names = [layer.name for layer in self.layers]
        if len(set(names)) < len(names):
            raise ValueError(f"two layers have the same name: {', '.join(names)}")
        if self.layers[0].tokens == 0:
            raise ValueError(f"the first layer, {names[0]}, needs at least one token")
        for layer in self.layers:
            if not layer.identity <= layer.identity_dims <= layer.identity * self.dim:
                raise ValueError(f"{layer.name}: identity_dims must lie between identity and identity * dim")
            if layer.spatial_dims and not layer.spatial <= layer.spatial_dims <= layer.spatial * self.dim:
                raise ValueError(f"{layer.name}: spatial_dims must be 0 or lie between spatial and spatial * dim")
            if layer.entries is not None and layer.entries > self.entries:
                raise ValueError(f"{layer.name}: entries must not exceed the {self.entries} entries of a codebook")
        if sum(layer.identity_dims for layer in self.layers) > EMBEDDING:
            raise ValueError(f"identity_dims of all layers must not exceed {EMBEDDING}")
        if self.thumbnail and CROP % self.thumbnail:
            raise ValueError(f"thumbnail must divide {CROP}")
        if any(not 1 <= ours <= theirs for ours, theirs in zip(self.student_trunk, TRUNK, strict=True)):
            raise ValueError(f"student_trunk must lie between 1 and the recogniser's channels {TRUNK}")
        if len(self.decoder_channels) != 4:
            raise ValueError("decoder_channels needs one width for each of 16, 32, 64 and 128 pixels")
        if self.student_layers:
            self._check_integer_student()
        return self

    def _check_integer_student(self) -> None:
        """Refuse, by a ValueError, what a student made for integers cannot be built of."""
        if self.groups > 1 and self.group_rule != "nearest":
            raise ValueError('a student made for integers has no router: group_rule must be "nearest"')
        for layer in self.layers:
            if layer.spatial and not layer.spatial_dims:
                raise ValueError(f"{layer.name}: a student made for integers needs spatial_dims")
        if not self.spatial_tokens:
            raise ValueError("a student made for integers needs at least one spatial token")
        width = 3
        for number, convolution in enumerate(self.student_layers):
            if convolution.depthwise and convolution.outputs % width:
                raise ValueError(f"student_layers.{number}: outputs of a depthwise layer must be a multiple of {width}")
            width = convolution.outputs

    @property
    def layer_names(self) -> tuple[str, ...]:
        """For people, e.g. `("basic", "middle", "enhanced")`."""
        return tuple(layer.name for layer in self.layers)

    @property
    def tokens(self) -> int:
        """T, the number of token positions."""
        return sum(layer.tokens for layer in self.layers)

    @property
    def identity_tokens(self) -> int:
        return sum(layer.identity for layer in self.layers)

    @property
    def spatial_tokens(self) -> int:
        return sum(layer.spatial for layer in self.layers)

    @property
    def spatial_components(self) -> int:
        """Principal components of the picture that all spatial tokens hold together."""
        return sum(layer.spatial_dims for layer in self.layers)

    @property
    def is_identity(self) -> tuple[bool, ...]:
        """Of each token, in the order of the stream, whether it is an identity token."""
        return tuple(kind for layer in self.layers for kind in [True] * layer.identity + [False] * layer.spatial)

    @property
    def layer_ends(self) -> tuple[int, ...]:
        """Number of tokens in the prefix that ends with each layer, e.g. `(16, 32, 64)`."""
        ends, total = [], 0
        for layer in self.layers:
            total += layer.tokens
            ends.append(total)
        return tuple(ends)

    @property
    def style_tokens(self) -> int:
        """Tokens that set the decoder's style: the layers up to the last that says who it is.

        Without any identity tokens, all layers but the last.
        """
        identity = [number for number, layer in enumerate(self.layers) if layer.identity]
        return self.layer_ends[identity[-1] if identity else max(0, len(self.layers) - 2)]

    def check_layers(self, layers: int) -> int:
        """`layers` again, if this model has as many.

        Raises:
            EdgeError: it has not; the message says how many there are.
        """
        if not 1 <= layers <= len(self.layers):
            count = len(self.layers)
            has = f"{count} layers ({', '.join(self.layer_names)}); choose 1 to {count}" if count > 1 else "one layer"
            raise EdgeError(f"cannot take {layers} layers: model {self.name} has {has}")
        return layers

    def save(self, path: Path) -> None:
        """Write the file, in format 2."""
        path.write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> "CodecConfig":
        """Read a configuration file.

        Raises:
            EdgeError: the file is missing or is not a valid configuration.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise EdgeError(f"{path} does not exist; point --model at a folder made by `edge-stscq train`") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "file"
            raise EdgeError(f"{path}: {where}: {first['msg']}") from None
