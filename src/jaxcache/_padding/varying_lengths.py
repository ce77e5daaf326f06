"""Lengths that vary between the calls of a function, read off their signatures in words: ``f(float32[5, 3])``."""

import re
from collections.abc import Iterable, Sequence

_SHAPE = re.compile(r"((?:float|bfloat|int|uint|bool|complex|key)[\w<>]*\*?)\[([\d,]*)\]")
_SIZES = re.compile(r"\d+")
_FEWEST_LENGTHS = 3  # fewer are no stream of lengths
_LONGEST_TEXT = 100  # characters of a signature


def alike(signatures: Iterable[str]) -> list[list[int]]:
    """Return the groups, as positions, of signatures that are equal but for the lengths of axes."""
    groups: dict[str, list[int]] = {}
    for position, signature in enumerate(signatures):
        template = _SHAPE.sub(lambda match: f"{match[1]}[{';' * len(_SIZES.findall(match[2]))}]", signature)
        groups.setdefault(template, []).append(position)
    return list(groups.values())


def one_length(signatures: Sequence[str]) -> list[int] | None:
    """Return the length of each of some signatures that are alike.

    None unless all axes that vary are equal in each, and the lengths are three or more, none twice.
    """
    dimensions = [_dimensions(signature) for signature in signatures]
    if len(dimensions) < _FEWEST_LENGTHS or not dimensions[0]:
        return None
    lengths: list[int] = []
    varying = [axis for axis, sizes in enumerate(zip(*dimensions, strict=True)) if len(set(sizes)) > 1]
    for sizes in dimensions:
        of_signature = {sizes[axis] for axis in varying}
        if len(of_signature) != 1:
            return None
        lengths += of_signature
    return lengths if min(lengths) >= 1 and len(set(lengths)) == len(lengths) else None


def with_n(signatures: Sequence[str]) -> str:
    """Return the signature that some have in common, with ``n`` where the length stands."""
    mine, others = (_dimensions(signature) for signature in signatures[:2])
    same = iter([size == other for size, other in zip(mine, others, strict=True)])

    def shape(match: re.Match[str]) -> str:
        return f"{match[1]}[{_SIZES.sub(lambda size: size[0] if next(same) else 'n', match[2])}]"

    text = _SHAPE.sub(shape, signatures[0])
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _dimensions(signature: str) -> list[int]:
    return [int(size) for _, shape in _SHAPE.findall(signature) for size in _SIZES.findall(shape)]
