"""A training recipe: everything that decides the result, in one TOML file."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from edge_stscq.config.codec import EMBEDDING, CodecConfig
from edge_stscq.config.thresholds import ParityThresholds
from edge_stscq.errors import EdgeError

_STRICT = ConfigDict(frozen=True, extra="forbid")

ByLayer = tuple[Annotated[float, Field(ge=0)], ...]
"""One number for each layer of the codec; empty is the default for as many as there are."""


class Losses(BaseModel):
    """Weights of the hybrid metric; the per-layer factors apply to pictures decoded from that many layers.

    `smooth` weighs what is rougher than the original. Commitment and router count while tokens are learned.
    """

    model_config = _STRICT

    pixel: float = 1.0
    perceptual: float = 1.0
    identity: float = 1.0
    adversarial: float = 0.0
    smooth: float = 0.0
    commitment: float = 0.25
    router: float = 0.1
    router_entropy: float = 1.0
    router_decision: float = 0.1
    pixel_by_layer: ByLayer = Field(default=(), description="by default rising evenly from 0.3 to 1")
    identity_by_layer: ByLayer = Field(default=(), description="by default 1 for all")

    def pixel_factors(self, layers: int) -> tuple[float, ...]:
        """`pixel_by_layer`, or its default for a codec of so many layers."""
        return self.pixel_by_layer or tuple(
            1 - 0.7 * missing / max(1, layers - 1) for missing in reversed(range(layers))
        )

    def identity_factors(self, layers: int) -> tuple[float, ...]:
        """`identity_by_layer`, or its default for a codec of so many layers."""
        return self.identity_by_layer or (1.0,) * layers


def odds(given: ByLayer, layers: int) -> tuple[float, ...]:
    """Probabilities that a picture is decoded from 1, 2, ... layers: as given, or half for all and the rest evenly."""
    if given or layers == 1:
        return given or (1.0,)
    return (*[0.5 / (layers - 1)] * (layers - 1), 0.5)


_ODDS = Field(
    default=(), description="of decoding 1, 2, ... layers; by default half of all pictures get all, the rest evenly"
)


class Stage(BaseModel):
    """One stage of training.

    `tokens` is the paper's stage: "shared" codebooks within each group, "specific" codebooks for every position
    (initialised by k-means over the latents), or "frozen" encoder and codebooks while the decoder goes on.
    """

    model_config = _STRICT

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    tokens: Literal["shared", "specific", "frozen"]
    steps: int = Field(ge=1)
    size: Literal[32, 64, 128] = 64
    rate: float = Field(default=1e-3, gt=0)
    train_encoder: bool = Field(default=True, description="false: the spatial network and its head stay as they start")
    semantic_share: float = Field(default=0.25, ge=0, le=1, description="share of a batch that the recogniser looks at")
    layer_odds: ByLayer = _ODDS
    losses: Losses = Losses()


class Distillation(BaseModel):
    model_config = _STRICT

    identity_steps: int = Field(ge=1)
    identity_rate: float = 1.5e-4
    blends: float = Field(default=0.0, ge=0, le=1, description="share of a batch of `identity` that blends two faces")
    token_steps: int = Field(ge=0, description="0: of the student only the identity trunk learns")
    token_rate: float = 5e-4
    batch: int = Field(default=32, ge=2)


class Finetuning(BaseModel):
    """The last phase: the decoder learns from the student's tokens."""

    model_config = _STRICT

    steps: int = Field(ge=1)
    rate: float = Field(default=1e-3, gt=0)
    batch: int = Field(default=24, ge=2)
    layer_odds: ByLayer = _ODDS
    trunks: tuple[tuple[int, int, int, int, int, int], ...] = Field(
        default=(), description="channels of trunks pruned from the recogniser that look beside it and the student's"
    )
    noise: float = Field(
        default=0.0, ge=0, le=1, description="added to token vectors before the search, in their standard deviations"
    )
    losses: Losses = Losses()

    @field_validator("losses")
    @classmethod
    def _not_adversarial(cls, losses: Losses) -> Losses:
        if losses.adversarial:
            raise ValueError("fine-tuning has no adversarial term; leave `adversarial` out")
        return losses


class ClosedForm(BaseModel):
    """Fit of the codebooks before any network trains."""

    model_config = _STRICT

    iterations: int = Field(default=15, ge=1, description="of k-means")
    free: bool = Field(
        default=False, description="codebooks of each group of their own, as published, instead of shared"
    )


class StudentTraining(BaseModel):
    """Distillation of the integer student."""

    model_config = _STRICT

    steps: int = Field(ge=1)
    rate: float = Field(default=2e-3, gt=0, description="learning rate, relative to each channel's weights")
    batch: int = Field(default=32, ge=2)
    front: int = Field(
        default=800, ge=0, description="steps in which the layers before those taken over learn the map these expect"
    )
    tail: float = Field(default=0.3, gt=0, le=1, description="learning rate of layers taken over, relative to the rest")
    blends: float = Field(default=0.5, ge=0, le=1, description="share of a batch that blends two faces")
    vectors: float = Field(default=0.5, ge=0)
    relation: float = Field(default=2.0, ge=0)
    features: float = Field(default=1.0, ge=0)


class CriticTraining(BaseModel):
    """The projected critic's part in training the decoder."""

    model_config = _STRICT

    weight: float = Field(gt=0)
    begin: float = Field(
        default=0.5, ge=0, lt=1, description="share of the steps after which the decoder listens to it"
    )
    rate: float = Field(default=2e-4, gt=0)
    by_layer: ByLayer = Field(default=(), description="factors of the weight by layers received; by default 1 for all")

    def factors(self, layers: int) -> tuple[float, ...]:
        """`by_layer`, or its default for a codec of so many layers."""
        return self.by_layer or (1.0,) * layers


class DecoderTraining(BaseModel):
    """The decoder learns on tokens, within what is picture."""

    model_config = _STRICT

    steps: int = Field(ge=1)
    rate: float = Field(default=4e-4, gt=0)
    batch: int = Field(default=16, ge=2)
    layer_odds: ByLayer = _ODDS
    noise: float = Field(default=0.0, ge=0, le=1, description="added to token vectors, in their standard deviations")
    trunks: tuple[tuple[int, int, int, int, int, int], ...] = Field(
        default=(), description="channels of trunks pruned from the recogniser that look beside it"
    )
    losses: Losses = Losses()
    critic: CriticTraining | None = None

    @field_validator("losses")
    @classmethod
    def _critic_instead(cls, losses: Losses) -> Losses:
        if losses.adversarial:
            raise ValueError("`adversarial` is of the stages' discriminator; give the table `critic` instead")
        return losses


class Recipe(BaseModel):
    """A codec and how it is trained.

    A codec with a float32 student has `stages`, `distillation` and perhaps `finetuning`; one with a student made for
    integers (`codec.student_layers`) has `closed_form`, `student` and `decoder` in their place.
    """

    model_config = _STRICT

    seed: int = 1
    faces: tuple[str, ...] = Field(min_length=1, description="folders or .tar shards, relative to --data")
    typical: tuple[str, ...] = Field(
        default=(), description="those of `faces` that are like the cameras' pictures: matching looks at how faces "
        "differ from their mean; by default all"
    )  # fmt: skip
    preview: tuple[str, ...] = Field(default=(), description="faces in sample pictures; by default the first of all")
    completion: int = Field(
        default=192, ge=0, le=512,
        description="components that complete what is no picture of a crop; 0 takes all of it for picture",
    )  # fmt: skip
    recogniser: str = Field(description="SFace weights, relative to --data")
    batch: int = Field(default=32, ge=2)
    average: float = Field(default=0.998, ge=0, lt=1)
    codebook_decay: float = Field(default=0.99, gt=0, lt=1)
    latents: int = Field(default=12_000, ge=100, description="crops that the final codebooks and tables are fitted to")
    codec: CodecConfig
    stages: tuple[Stage, ...] = ()
    distillation: Distillation | None = None
    finetuning: Finetuning | None = None
    closed_form: ClosedForm | None = None
    student: StudentTraining | None = None
    decoder: DecoderTraining | None = None
    parity: ParityThresholds = Field(
        default=ParityThresholds(), description="how alike artefacts and full precision must be"
    )

    @model_validator(mode="after")
    def _tables_of_the_student(self) -> "Recipe":
        integer = bool(self.codec.student_layers)
        ours, others = ("closed_form", "student", "decoder"), ("stages", "distillation", "finetuning")
        needed, wrong = (ours, others) if integer else (others[:2], ours)
        kind = "a codec with student_layers" if integer else "a codec without student_layers"
        if missing := [name for name in needed if not getattr(self, name)]:
            raise ValueError(f"{kind} needs {', '.join(missing)}")
        if found := [name for name in wrong if getattr(self, name)]:
            raise ValueError(f"{kind} has no {', '.join(found)}; it has {', '.join(needed)}")
        return self

    @model_validator(mode="after")
    def _codec_for_integers(self) -> "Recipe":
        codec = self.codec
        if not codec.student_layers:
            return self
        if (dims := sum(layer.identity_dims for layer in codec.layers)) != EMBEDDING:
            raise ValueError(f"codec: identity_dims of all layers are {dims}; a codec with student_layers spreads all "
                             f"{EMBEDDING}")  # fmt: skip
        if bare := [layer.name for layer in codec.layers if layer.spatial and not layer.spatial_dims]:
            raise ValueError(f"codec: {', '.join(bare)}: spatial_dims must be given for a codec with student_layers")
        if codec.group_rule != "nearest":
            raise ValueError('codec: a codec with student_layers needs group_rule = "nearest"')
        if not codec.token_specific and (codec.groups > 1 or any(layer.entries for layer in codec.layers)):
            raise ValueError("codec: token_specific = false is the control: groups = 1, no layer's own entries")
        if codec.groups > 1 and not codec.layers[0].identity:
            raise ValueError("codec: groups are chosen by the first layer's identity tokens; it has none")
        return self

    @model_validator(mode="after")
    def _one_number_a_layer(self) -> "Recipe":
        count = len(self.codec.layers)
        phases = [(f"stage {stage.name}", stage.layer_odds, stage.losses) for stage in self.stages]
        if self.finetuning is not None:
            phases.append(("finetuning", self.finetuning.layer_odds, self.finetuning.losses))
        if self.decoder is not None:
            phases.append(("decoder", self.decoder.layer_odds, self.decoder.losses))
        for phase, layer_odds, losses in phases:
            if layer_odds and not any(layer_odds):
                raise ValueError(f"{phase}: layer_odds are all zero")
            fields = {"layer_odds": layer_odds, "losses.pixel_by_layer": losses.pixel_by_layer}
            fields |= {"losses.identity_by_layer": losses.identity_by_layer}
            if phase == "decoder" and self.decoder is not None and self.decoder.critic is not None:
                fields |= {"critic.by_layer": self.decoder.critic.by_layer}
            for field, numbers in fields.items():
                if numbers and len(numbers) != count:
                    raise ValueError(f"{phase}: {field} has {len(numbers)} numbers for a codec of {count} layers")
        return self

    @classmethod
    def load(cls, path: Path) -> "Recipe":
        """Read a recipe.

        Raises:
            EdgeError: the file is missing, not TOML, or not a valid recipe.
        """
        try:
            return cls.model_validate(tomllib.loads(path.read_text()))
        except FileNotFoundError:
            raise EdgeError(f"{path} does not exist; recipes are in the folder recipes/") from None
        except tomllib.TOMLDecodeError as error:
            raise EdgeError(f"{path} is not TOML: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "recipe"
            raise EdgeError(f"{path}: {where}: {first['msg']}") from None
