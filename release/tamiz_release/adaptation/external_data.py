"""Tensors of an ONNX file whose values are in other files, which are checked before they are read."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath

from onnx import TensorProto, external_data_helper

from tamiz.errors import ExportError, cut, one_line, os_reason

from .tensor_claims import MAX_BYTES, check_dimensions


def load_external_data(path: Path, size: int, tensors: list[TensorProto]) -> None:
    """Read the values of tensors that are in files beside the ONNX file, after all of them are checked.

    Args:
        path: path of the ONNX file.
        size: size of the ONNX file in bytes.
        tensors: the tensors, changed in place: their values are inside afterwards.

    Raises:
        ExportError: a file is outside of the folder, a link, or too short; or all files together are too large.
    """
    folder = path.absolute().parent
    for tensor in tensors:
        size += _check_external(path, folder, tensor)
        check_size(size, path)
    for tensor in tensors:
        try:
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except Exception as exc:
            raise ExportError(f"{path}: its external data cannot be read: {cut(one_line(exc), 300)}") from exc
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _check_external(path: Path, folder: Path, tensor: TensorProto) -> int:
    """Check where the external data of a tensor is; return its size in bytes."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    name = f"{path}: external data {cut(location, 120)!r} of tensor {cut(tensor.name, 80)}"
    relative = PurePosixPath(location)
    if not location or relative.is_absolute() or ".." in relative.parts or "\0" in location or "\\" in location:
        raise ExportError(f"{name}: refused, because it is not a file in the folder of the ONNX file")
    file = folder / relative
    if file.resolve() != folder.resolve() / relative:
        raise ExportError(f"{name}: refused, because it is a link; copy the file into the folder of the ONNX file")
    held = file_size(file, name)
    claimed = _check_external_dimensions(name, tensor)
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or claimed)
    except ValueError:
        raise ExportError(f"{name}: its offset or length is not a number") from None
    if length != claimed or offset < 0 or offset + length > held:
        raise ExportError(
            f"{name}: bytes {offset:,} to {offset + length:,} for a tensor of {claimed:,} bytes, and the file has "
            f"{held:,}; copy the whole file again"
        )
    return claimed


def _check_external_dimensions(name: str, tensor: TensorProto) -> int:
    try:
        return check_dimensions(tensor.name, tensor.dims, tensor.data_type)
    except ValueError as exc:
        raise ExportError(f"{name}: {exc}") from exc


def file_size(path: Path, name: str) -> int:
    """Size of a file in bytes.

    Args:
        path: path of the file.
        name: name of the file, for the error message.

    Raises:
        ExportError: it cannot be read, or is not a regular file.
    """
    try:
        found = path.stat()
    except OSError as exc:
        raise ExportError(f"{name}: cannot be read: {os_reason(exc)}") from exc
    # Opening a pipe or a device could wait for ever.
    if not stat.S_ISREG(found.st_mode):
        raise ExportError(f"{name}: not a file")
    return found.st_size


def check_size(size: int, path: Path) -> None:
    """Check the size in bytes of an ONNX file with its external data.

    Raises:
        ExportError: it is not below `MAX_BYTES`.
    """
    if size >= MAX_BYTES:
        raise ExportError(
            f"{path}: too large: with its external data it has {size / 2**30:.1f} GiB, and an ONNX file with all of "
            f"its weights inside must be smaller than {MAX_BYTES / 2**30:.0f} GiB"
        )
