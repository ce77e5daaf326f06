"""``tune.html``: the page of a tuning, from the same parts as its other reports; it opens from disk and asks nobody."""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ... import Curves, format_size
from ..analysis.recommendation import python_size
from ..files import write_file
from ..layout import BEST_SETTING, TUNE_PAGE, curves_picture
from ..report.images import WEB
from ..report.page import SECURITY_POLICY, render
from .answer import COLUMNS, KEEP, compare, of_jax_alone, of_the_best, setting_of, verdict
from .report import (
    CHECKED_COLUMNS,
    CHECKED_NOTE,
    SETTING_COLUMNS,
    Tuned,
    checked_row,
    conditions,
    refutation,
    setting_row,
)

_TEXT = ("", "setting", "buckets", "eviction")


def write_page(tuned: Tuned, directory: Path) -> Path:
    """Write the page beside the pictures in ``directory``; return its path."""
    path = directory / TUNE_PAGE
    write_file(path, page(tuned, directory), durable=False)
    return path


def page(tuned: Tuned, directory: Path) -> str:
    """Return the page of a tuning whose pictures are in ``directory``."""
    now = tuned.present.candidate if tuned.present is not None else None
    best, tuning = tuned.tuning.best, tuned.tuning
    refuted = refutation(tuned)
    judged = "" if now is None or refuted else f"{verdict(tuning, now)}."
    taken = f"By prediction, take {setting_of(best)}." if refuted else f"Take {setting_of(best)}."
    program = next(
        (tuned.program[key] for key in ("program.script", "program.module") if key in tuned.program), "train.py"
    )
    apply = [
        ("unchanged", f"jaxcache run --settings {directory / BEST_SETTING} {program}"),
        ("in a program", f'jaxcache.install({python_size(best.limit_bytes)}, eviction="{best.replayed.policy}")'),
        ("or", f'JitCache.from_file("{directory / BEST_SETTING}")'),
    ]
    return render(
        "tune.html.j2",
        security_policy=SECURITY_POLICY,
        name=tuned.what,
        style=Markup((WEB / "page.css").read_text()),
        sentence=f"{KEEP}." if judged.startswith(KEEP) else taken,
        lead=" ".join(filter(None, [judged, refuted or of_the_best(tuning), of_jax_alone(tuning)])),
        apply=apply,
        compared=_table(COLUMNS, compare(tuning, now), marked=1 if now is not None else 0),
        padding=_padding(tuned),
        maps=list(_maps(tuned, directory)),
        checked=_table(CHECKED_COLUMNS, [checked_row(each) for each in tuned.checked]) if tuned.verified else None,
        checked_note=CHECKED_NOTE.replace("`", ""),
        front=_table(SETTING_COLUMNS, [setting_row(candidate) for candidate in tuning.front()]),
        command=tuned.command,
        conditions=list(conditions(tuned)),
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], marked: int | None = None) -> dict[str, Any]:
    numbers = [name not in _TEXT for name in columns]
    return {
        "columns": [{"name": name, "is_number": number} for name, number in zip(columns, numbers, strict=True)],
        "rows": [
            {
                "is_marked": row_number == marked,
                "cells": [
                    {"text": text, "style": "number" if number else ""}
                    for text, number in zip(row, numbers, strict=True)
                ],
            }
            for row_number, row in enumerate(rows)
        ],
    }


def _padding(tuned: Tuned) -> dict[str, Any] | None:
    if tuned.padding is None:
        return None
    return {"sentence": str(tuned.padding), "calls": [each.call for each in tuned.padding.functions]}


def _maps(tuned: Tuned, directory: Path) -> Iterator[dict[str, str]]:
    for buckets, curves in tuned.tuning.curves.items():
        picture = base64.b64encode((directory / curves_picture(buckets)).read_bytes()).decode()
        yield {
            "buckets": buckets,
            "sentence": _in_numbers(curves),
            "picture": f"data:image/svg+xml;base64,{picture}",
            "lengths": ", ".join(map(str, tuned.lengths.get(buckets, ()))),
        }


def _in_numbers(curves: Curves) -> str:
    """Return what a chart shows, in a sentence with numbers."""
    best, limits = curves.best(), curves.limits_bytes.tolist()
    first, last = best[0], best[-1]
    if len(limits) == 1:
        return f"At {format_size(limits[0])}, {first.policy} compiles least, for {first.compile_seconds:.1f} s."
    return (
        f"The best policy compiles for {first.compile_seconds:.1f} s at {format_size(limits[0])} ({first.policy}) and "
        f"{last.compile_seconds:.1f} s at {format_size(limits[-1])} ({last.policy}); the knee, beyond which more bytes "
        f"save little, is at {format_size(curves.knee_bytes())}."
    )
