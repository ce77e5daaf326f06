"""Files written in one step: under a temporary name, then renamed."""

import os
from pathlib import Path

from pydantic import BaseModel


def write_json(path: Path, model: BaseModel, durable: bool = True) -> None:
    """Write a model in one step, so that readers never see a part of it; if durable, also after a power cut."""
    write_whole(path, f"{model.model_dump_json(indent=2)}\n".encode(), durable)


def write_whole(path: Path, content: bytes, durable: bool = True) -> None:
    """Write a file in one step; if durable, it is on the disk before it gets its name."""
    staged = path.with_name(f".{path.name}.tmp")
    with staged.open("wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    staged.replace(path)
