"""Results and references of earlier runs, read again in place of running them."""

import shutil
from pathlib import Path

from pydantic import ValidationError

from ..analysis.reading import fault_of_result
from ..environment import Environment
from ..files import write_json
from ..layout import REFERENCE, REQUESTS, RESULT
from ..result import Reference, TrialResult
from .job import TrialJob


def known_result(directory: Path, trial_id: str, here: Environment) -> TrialResult | None:
    """Return the result that an earlier run of this very trial left, or None if the trial has to be run.

    A trial that was never attempted has to be run: its reference may have failed for a reason that is gone.
    """
    result = usable_result(directory)
    if result is None:
        return None
    wanted = result.attempted and result.trial_id == trial_id and result.environment.computes_as(here)
    return result if wanted else None


def usable_result(directory: Path) -> TrialResult | None:
    """Return the result in a trial's directory; None if it is missing or damaged."""
    try:
        result = TrialResult.model_validate_json((directory / RESULT).read_bytes())
    except (OSError, ValidationError):
        return None
    return result if fault_of_result(result) is None else None


def known_reference(job: TrialJob, references: Path | None) -> Reference | None:
    """Return the reference of an earlier sweep if it has this program and this kind of device, and copy its file."""
    if references is None:
        return None
    try:
        text = (references / job.program_id / REFERENCE).read_bytes()
        reference = Reference.model_validate_json(text)
    except (OSError, ValidationError):
        return None
    if reference.slot != job.device.slot or not reference.environment.computes_as(job.environment):
        return None
    source, target = references / job.program_id / REQUESTS, job.directory / REQUESTS
    if source.exists() and not (target.exists() and target.samefile(source)):  # a resumed sweep has its own there
        shutil.copy(source, target)
    write_json(job.directory / REFERENCE, reference)
    return reference
