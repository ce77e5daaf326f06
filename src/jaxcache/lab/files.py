"""Files of the lab and of the flows, written in one step: text and bytes, and models as JSON."""

from pathlib import Path

from pydantic import BaseModel

from .._primitives.atomic_files import replacing, write_file

__all__ = ["replacing", "write_file", "write_json"]


def write_json(path: Path, model: BaseModel, durable: bool = True) -> None:
    """Write a model in one step, so that readers never see a part of it; if durable, also after a power cut."""
    write_file(path, f"{model.model_dump_json(indent=2)}\n", durable=durable)
