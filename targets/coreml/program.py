"""Reading a MIL program back from disk.

Only what an encoder needs is read: one function, fixed shapes, no control flow. Constants become numpy arrays; small
ones stand in the model file itself, large ones in `weight.bin`:

    header      64 bytes: number of blobs u32, version u32 = 2
    per blob    64 bytes of metadata: 0xDEADBEEF u32, type u32, size u64, offset of the data u64; data begins at
                multiples of 64 bytes

All integers are little-endian. The program refers to a blob by the offset of its metadata.
"""

import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError, MissingExtraError
from targets.coreml.package import locate

Value = NDArray[Any] | str

_STRING = "STRING"
# Name of the type in MIL.proto -> numpy type.
_DTYPES = {
    "BOOL": np.bool_, "FLOAT16": np.float16, "FLOAT32": np.float32, "INT8": np.int8, "UINT8": np.uint8,
    "INT16": np.int16, "UINT16": np.uint16, "INT32": np.int32,
}  # fmt: skip
# Type number in a blob's metadata -> numpy type.
_BLOB_DTYPES = {1: np.float16, 2: np.float32, 3: np.uint8, 4: np.int8, 6: np.int16, 7: np.uint16, 14: np.int32}
_BLOB_FILE = "@model_path/weights/weight.bin"
_METADATA = struct.Struct("<IIQQ")
_SENTINEL = 0xDEADBEEF


@dataclass(frozen=True)
class Tensor:
    """A named value and its type."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One step of the program. An input is the names of earlier values, or a constant."""

    kind: str
    inputs: dict[str, tuple[str, ...] | Value]
    outputs: tuple[Tensor, ...]

    @property
    def name(self) -> str:
        return self.outputs[0].name


@dataclass(frozen=True)
class Program:
    """The main function of a package: constants by name, then operations in the order in which they run."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    constants: dict[str, Value]
    operations: tuple[Operation, ...]


class BlobFile:
    """Large constants, read by the offset of their metadata."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = path.read_bytes()

    def read(self, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """The blob at `offset` as an array of its own.

        Raises:
            EdgeError: there is no such blob, or it is not of this type and size.
        """
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        try:
            sentinel, kind, length, start = _METADATA.unpack_from(self._data, offset)
        except struct.error:
            sentinel = kind = length = start = 0
        if sentinel != _SENTINEL or start + length > len(self._data):
            raise EdgeError(f"{self._path} is damaged: no constant at byte {offset}; export the package again")
        if _BLOB_DTYPES.get(kind) != dtype.type or length != size:
            raise EdgeError(
                f"{self._path} is damaged: the constant at byte {offset} has type {kind} and {length} bytes, "
                f"not {dtype} and {size}; export the package again"
            )
        return np.frombuffer(self._data, dtype, size // dtype.itemsize, start).reshape(shape).copy()


class _Reader:
    """Protocol buffer messages of MIL.proto -> the classes above. Any is a message: their classes carry no types."""

    def __init__(self, types: dict[int, str], blobs: BlobFile) -> None:
        self._types = types
        self._blobs = blobs

    def _tensor_type(self, message: Any, owner: str) -> tuple[str, tuple[int, ...]]:
        if message.WhichOneof("type") != "tensorType":
            raise EdgeError(f"the value {owner!r} of the Core ML program is not a tensor; the reference cannot run it")
        tensor = message.tensorType
        if any(dimension.WhichOneof("dimension") != "constant" for dimension in tensor.dimensions):
            raise EdgeError(f"the shape of {owner!r} in the Core ML program is not fixed; the reference cannot run it")
        name = self._types.get(tensor.dataType, str(tensor.dataType))
        if name != _STRING and name not in _DTYPES:
            raise EdgeError(f"the value {owner!r} of the Core ML program is {name}; the reference cannot run it")
        return name, tuple(int(dimension.constant.size) for dimension in tensor.dimensions)

    def tensor(self, message: Any) -> Tensor:
        """A NamedValueType message."""
        name, shape = self._tensor_type(message.type, message.name)
        return Tensor(message.name, np.dtype(_DTYPES[name]), shape)

    def value(self, message: Any, owner: str) -> Value:
        """A Value message."""
        name, shape = self._tensor_type(message.type, owner)
        if message.WhichOneof("value") == "blobFileValue":
            blob = message.blobFileValue
            if blob.fileName != _BLOB_FILE or name == _STRING:
                raise EdgeError(f"the constant {owner!r} of the Core ML program is not in weights/weight.bin")
            return self._blobs.read(blob.offset, np.dtype(_DTYPES[name]), shape)
        tensor = message.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        if kind is None:
            raise EdgeError(f"the constant {owner!r} of the Core ML program has no value")
        values = getattr(tensor, kind).values
        if name == _STRING:
            return str(values[0])
        dtype = np.dtype(_DTYPES[name])
        array = np.frombuffer(values, dtype).copy() if kind == "bytes" else np.array(list(values), dtype)
        if array.size != int(np.prod(shape)):
            raise EdgeError(f"the constant {owner!r} of the Core ML program has {array.size} values, not shape {shape}")
        return array.reshape(shape)

    def _input(self, bindings: Iterable[Any], owner: str) -> tuple[str, ...] | Value:
        messages = list(bindings)
        if len(messages) == 1 and messages[0].WhichOneof("binding") == "value":
            return self.value(messages[0].value, owner)
        return tuple(message.name for message in messages)

    def operation(self, message: Any) -> Operation:
        """An Operation message. Some operators (`constexpr_*`) keep their constants as attributes."""
        outputs = tuple(self.tensor(output) for output in message.outputs)
        owner = outputs[0].name if outputs else message.type
        if message.blocks:
            raise EdgeError(f"the operation {owner!r} ({message.type}) branches; the reference cannot run it")
        inputs = {key: self._input(value.arguments, owner) for key, value in message.inputs.items()}
        inputs.update({key: self.value(value, owner) for key, value in message.attributes.items() if key != "name"})
        return Operation(message.type, inputs, outputs)


def _messages(name: str) -> ModuleType:
    """A module of coremltools' message classes: `Model_pb2` or `MIL_pb2`.

    They are imported as a package of their own: `import coremltools` brings every converter and its tools along, ten
    seconds of it, and reading needs none of them.
    """
    alone = f"{__name__}_proto"
    if alone not in sys.modules:
        found = find_spec("coremltools")
        if found is None or found.origin is None:
            raise MissingExtraError("coremltools is not installed; run: pip install 'edge-stscq[coreml]'")
        init = Path(found.origin).parent / "proto" / "__init__.py"
        spec = spec_from_file_location(alone, init, submodule_search_locations=[str(init.parent)])
        assert spec is not None
        sys.modules[alone] = module_from_spec(spec)
    return import_module(f"{alone}.{name}")


def read_program(path: Path) -> Program:
    """Read the package at `path`.

    Raises:
        EdgeError: it is incomplete or damaged, or holds something else than a fixed-shape MIL program.
        MissingExtraError: coremltools, which brings the message classes, is not installed.
    """
    model_file, weights_file = locate(path)
    model_pb2, mil_pb2 = _messages("Model_pb2"), _messages("MIL_pb2")
    from google.protobuf.message import DecodeError

    try:
        model = model_pb2.Model.FromString(model_file.read_bytes())
    except DecodeError as error:
        raise EdgeError(f"{model_file} is damaged; export the package again") from error
    if model.WhichOneof("Type") != "mlProgram" or "main" not in model.mlProgram.functions:
        raise EdgeError(f"{model_file} holds no MIL program; export the package again")
    main = model.mlProgram.functions["main"]
    block = main.block_specializations[main.opset]
    types = {number: name for name, number in mil_pb2.DataType.items()}
    reader = _Reader(types, BlobFile(weights_file))
    constants: dict[str, Value] = {}
    operations = []
    for message in block.operations:
        if message.type == "const":
            name = message.outputs[0].name
            constants[name] = reader.value(message.attributes["val"], name)
        else:
            operations.append(reader.operation(message))
    inputs = tuple(reader.tensor(value) for value in main.inputs)
    return Program(inputs, tuple(block.outputs), constants, tuple(operations))
