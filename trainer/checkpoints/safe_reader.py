"""Reading checkpoints from anywhere: nothing in them is run, and nothing outside of their folder is read."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

from robot_foundry.runtime.errors import FoundryError

_PART = re.compile(r"[A-Za-z0-9_]+\.distcp")
_SAFE_GLOBALS = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta",
            "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
        )
    ),
}  # fmt: skip


class _MetadataUnpickler(pickle.Unpickler):
    """Builds the classes of a checkpoint's metadata and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _SAFE_GLOBALS:
            return super().find_class(module, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


class SafeReader(FileSystemReader):
    """Reader of checkpoints from anywhere: metadata runs no code, and data lies in the folder itself."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        path = Path(self.path) / ".metadata"
        try:
            with path.open("rb") as file:
                metadata = _MetadataUnpickler(file).load()
        except Exception as error:  # a damaged pickle may raise anything
            raise FoundryError(
                f"{path} is refused: {error}", hint="use a checkpoint that you trust"
            ) from error
        stored = getattr(metadata, "storage_data", None)
        if not isinstance(metadata, Metadata) or not isinstance(stored, dict):
            raise FoundryError(f"{path} is refused: it is not the metadata of a checkpoint")
        for info in stored.values():
            if not _PART.fullmatch(str(info.relative_path)) or info.transform_descriptors:
                raise FoundryError(f"{path} is refused: it points to {info.relative_path!r}")
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata
