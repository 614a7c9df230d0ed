"""Manifest of a bundle: the typed `manifest.json` and the hashes that guard every other file.

A bundle is a folder sent to a device:

    manifest.json             this schema
    encoder.onnx | encoder.pte | encoder.mlpackage/
    codebooks.safetensors     "books" float32 [M, T, K, D]
    tables.safetensors        integer frequency tables of the entropy coder
    projection.safetensors    "projection" float32 [128, T_id * D], "mean" and "center" float32 [128]: for matching
    golden.safetensors        "images" uint8 [G, 128, 128, 3], "groups" int32 [G], "tokens" int32 [G, T], and
                              "other_groups", "other_tokens": as good an answer at a tie, elsewhere the same;
                              "payloads" uint8 [bytes], "payload_lengths" int32 [G, L]: groups and tokens as
                              entropy-coded bytes, picture by picture, each cut after 1, 2, ... and all L layers
    thresholds.json           of a model that was measured: scores from which on two faces are one person's
    cohort.safetensors        "centers" float16 [L, C, 128]: what these scores are held against
    learned.safetensors       of a bundle with the learned coder: its weights (`stream/learned/weights.py`)

A runtime loads an artefact whose weights were altered without a word and answers with other tokens, so the manifest
lists the sha256 of every file of the folder, and of itself, and nothing that is not listed may lie there but
`manifest.sig`. The hashes find damage and mix-ups; a signature (`signature.py`) says who made the bundle. There is no
time stamp: the same model exported twice by the same tools gives the same bytes.

Format 4 names a coder other than the static tables and is format 3 otherwise, and a bundle of the static tables still
is of format 3. Format 3 has the projection and the payloads. Formats 1 and 2 have neither and are still read: such a
bundle encodes as ever and cannot match. In format 1 the configuration had three fields in the place of its list of
layers, and the manifest said nothing of them.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from edge_stscq._files import write_file
from edge_stscq.config.codec import CodecConfig
from edge_stscq.errors import BundleError
from edge_stscq.stream.learned.weights import FILE as LEARNED
from edge_stscq.stream.packed import CoderName

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
CODEBOOKS = "codebooks.safetensors"
TABLES = "tables.safetensors"
PROJECTION = "projection.safetensors"
GOLDEN = "golden.safetensors"
SELF_HASH_FIELD = "manifest_sha256"
REEXPORT_HINT = "copy or export the bundle again"

ARCFACE_112 = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Eye left in the picture, eye right in the picture, nose, mouth corner left, mouth corner right: (x, y) at 112 px."""


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or PurePosixPath(path).as_posix() != path:
        raise ValueError("must be a plain relative path inside the bundle")
    return path


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RelativePath = Annotated[str, AfterValidator(_inside)]
Version = Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")]


TargetName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
"""Name of a target; which names have a runtime, `device/runtimes` knows."""
Precision = Literal["int8", "w8", "fp32"]
"""int8 weights and activations; int8 weights and float32 arithmetic; float32."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(_Frozen):
    """One input or output of the artefact, as its runtime names it. Shapes are fixed; the batch is 1."""

    name: str = Field(min_length=1)
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    dtype: Literal["uint8", "int32", "int64", "float32"]
    description: str


class CropSpec(_Frozen):
    """Alignment of a picture to the canonical crop. Two programs that differ in any of these make other tokens."""

    size: Literal[128] = 128
    colour: Literal["RGB"] = "RGB"
    template: tuple[tuple[float, float], ...] = Field(default=ARCFACE_112, min_length=5, max_length=5)
    template_size: Literal[112] = 112
    margin: Literal[8] = 8
    solver: Literal["umeyama"] = "umeyama"
    interpolation: Literal["area when shrinking, cubic when enlarging"] = "area when shrinking, cubic when enlarging"
    border: Literal["reflect"] = "reflect"


class QuantizationSpec(_Frozen):
    """Origin of the quantised graph; absent from an fp32 bundle."""

    scheme: str = Field(min_length=1, description='e.g. "static int8, per-channel weights, per-tensor activations"')
    calibration_images: int | None = Field(default=None, ge=1, description="null: the student was trained in integers")
    calibration_sha256: Digest | None = Field(
        default=None, description="hash of the calibration set, so that two exports can be compared"
    )


class RuntimeRange(_Frozen):
    """Versions of a runtime package that the artefact was tried with: `minimum <= version < maximum_exclusive`."""

    package: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    minimum: Version
    maximum_exclusive: Version

    @model_validator(mode="after")
    def _ordered(self) -> "RuntimeRange":
        if release(self.minimum) >= release(self.maximum_exclusive):
            raise ValueError("minimum must be below maximum_exclusive")
        return self

    def admits(self, version: str) -> bool:
        """True if an installed `version` (any PEP 440 string; only its release numbers count) is in the range."""
        return release(self.minimum) <= release(version) < release(self.maximum_exclusive)

    @property
    def requirement(self) -> str:
        """The range as pip takes it, e.g. `onnxruntime>=1.20,<2`."""
        return f"{self.package}>={self.minimum},<{self.maximum_exclusive}"


class LayerSpec(_Frozen):
    """One layer: what people call it, and the number of tokens in the prefix that ends with it."""

    name: str
    end: int = Field(ge=1)


def _layers(validated: dict[str, Any]) -> tuple[LayerSpec, ...]:
    config: CodecConfig = validated["config"]
    return tuple(LayerSpec(name=name, end=end) for name, end in zip(config.layer_names, config.layer_ends, strict=True))


class Manifest(_Frozen):
    """`manifest.json`. Unknown fields are refused: a newer format must raise `format_version`."""

    format_version: Literal[2, 3, 4] = 3
    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")
    target: TargetName
    precision: Precision
    artefact: RelativePath = Field(description="file of the runtime, or its folder for an .mlpackage")
    model_id: str = Field(pattern=r"^[0-9a-f]{16}$", description="hash of codebooks and frequency tables, in hex")
    coder: CoderName = Field(default="static", description="of payloads in wire version 2; stated from format 4 on")
    config: CodecConfig
    layers: tuple[LayerSpec, ...] = Field(default_factory=_layers, description="the layers of `config`, first to last")
    inputs: tuple[TensorSpec] = Field(description="image [1, 128, 128, 3], RGB, 0 to 255")
    outputs: tuple[TensorSpec, TensorSpec] = Field(description="group [1], then tokens [1, T]")
    quantisation: QuantizationSpec | None = None
    crop: CropSpec = CropSpec()
    tool_versions: dict[str, str] = Field(description="every package that had a hand in the artefact")
    runtime: RuntimeRange
    files: dict[RelativePath, Digest] = Field(description="sha256 of every other file of the bundle")

    @model_validator(mode="before")
    @classmethod
    def _from_format_1(cls, content: Any) -> Any:
        """A manifest of format 1 as one of format 2; anything else as it is."""
        if isinstance(content, dict) and content.get("format_version") == 1 and "layers" not in content:
            return content | {"format_version": 2}
        return content

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        if self.layers != _layers({"config": self.config}):
            raise ValueError("layers are not those of config")
        if (self.precision == "fp32") != (self.quantisation is None):
            raise ValueError("an int8 or w8 bundle describes its quantisation, an fp32 bundle has none")
        if (self.format_version >= 4) != (self.coder != "static"):
            raise ValueError("a coder other than static is named from format 4 on, and static in formats before")
        needed = [CODEBOOKS, TABLES, GOLDEN] + [PROJECTION] * self.matches + [LEARNED] * (self.coder == "learned")
        missing = [name for name in needed if name not in self.files]
        if missing:
            raise ValueError(f"files does not list {', '.join(missing)}")
        if self.artefact not in self.files and not any(name.startswith(f"{self.artefact}/") for name in self.files):
            raise ValueError(f"files does not list the artefact {self.artefact}")
        for name in (MANIFEST, SIGNATURE):
            if name in self.files:
                raise ValueError(f"files lists {name} itself")
        return self

    @property
    def matches(self) -> bool:
        """True if the bundle has the identity projection, and payloads among its golden vectors: from format 3 on."""
        return self.format_version >= 3

    @property
    def exact(self) -> bool:
        """True if the golden tokens are the only right ones, on every device: a student made for integers, in int8."""
        return self.precision == "int8" and bool(self.config.student_layers)

    @property
    def codebook_bytes(self) -> int | None:
        """Bytes of an exact artefact that hold codebook entries, in int8, and their squared norms, in float32.

        None of any other artefact, whose runtime decides.
        """
        if not self.exact:
            return None
        config = self.config
        first = config.layers[0].identity if config.groups > 1 else 0  # held once more for the choice of a group
        return config.groups * (config.tokens + first) * config.entries * (config.dim + 4)

    def to_json(self) -> str:
        """The file's text: canonical JSON with a hash of itself, so that no byte of it can change unseen."""
        return sealed_json(self.model_dump(mode="json", exclude={"coder"} if self.format_version < 4 else None))

    def save(self, folder: Path) -> None:
        """Write `folder/manifest.json` in one step. Do it last: without it the folder is no bundle."""
        write_file(folder / MANIFEST, self.to_json().encode())

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read and validate `folder/manifest.json`; the files it lists are not looked at.

        Raises:
            BundleError: there is none, it does not follow this schema, or it is not as `save` wrote it.
        """
        return cls.parse(folder, read_manifest(folder))

    @classmethod
    def parse(cls, folder: Path, data: bytes) -> "Manifest":
        """Validate the bytes of `folder/manifest.json`.

        Raises:
            BundleError: they do not follow this schema, or are not as `save` wrote them.
        """
        path = folder / MANIFEST
        try:
            content = from_json(data)
            if not isinstance(content, dict):
                raise BundleError(f"{path}: is not an object; {REEXPORT_HINT}")
            content.pop(SELF_HASH_FIELD, None)
            manifest = cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "file"
            raise BundleError(f"{path}: {where}: {first['msg']}; {REEXPORT_HINT}") from None
        except ValueError as error:
            raise BundleError(f"{path}: {error}; {REEXPORT_HINT}") from None
        if sealed_json(content).encode() != data:
            raise BundleError(f"{path} was altered (its {SELF_HASH_FIELD} differs); {REEXPORT_HINT}")
        return manifest


def read_manifest(folder: Path) -> bytes:
    """Bytes of a bundle's manifest.

    Raises:
        BundleError: there is none.
    """
    try:
        return (folder / MANIFEST).read_bytes()
    except OSError:
        raise BundleError(
            f"{folder} is not a bundle: no {MANIFEST}; make one with `edge-stscq export`, or get one with "
            "`edge-stscq pull`"
        ) from None


def sealed_json(content: dict[str, Any]) -> str:
    """JSON with sorted keys, two spaces and a final newline; `SELF_HASH_FIELD` is the sha256 of the same without it."""
    seal = hashlib.sha256(_canonical(content).encode()).hexdigest()
    return _canonical(content | {SELF_HASH_FIELD: seal})


def _canonical(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def release(version: str) -> tuple[int, ...]:
    """Release numbers of a version string without trailing zeros: `"1.31.0.post1+cpu"` -> `(1, 31)`."""
    match = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(number) for number in match.group().split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def sha256_file(path: Path) -> str:
    """Lower-case hex sha256 of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_files(folder: Path) -> dict[str, str]:
    """sha256 of every file below `folder` except manifest and signature, by POSIX path relative to it, sorted.

    This is the manifest's `files`: call it when everything else has been written.

    Raises:
        BundleError: something below is neither a plain file nor a folder (a link could lead out of the bundle).
    """
    digests: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BundleError(f"{path} is neither a plain file nor a folder; a bundle holds nothing else")
        if path.is_file() and name not in (MANIFEST, SIGNATURE):
            digests[name] = sha256_file(path)
    return dict(sorted(digests.items()))


def differences(listed: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """One line for each file that is missing, unlisted or altered; empty when the folder is as listed."""
    lines = [f"{name} is missing" for name in sorted(listed.keys() - found.keys())]
    lines += [f"{name} is not listed in {MANIFEST}" for name in sorted(found.keys() - listed.keys())]
    lines += [
        f"{name} was altered (sha256 differs)" for name in sorted(listed.keys() & found.keys())
        if listed[name] != found[name]
    ]  # fmt: skip
    return lines
