"""Program: a program of the user's as a workload, a script, a module or a function that is called with the cache."""

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from .settings import WorkloadConfig

TOLERANT_FILES = (".json", ".npy", ".npz")  # in which numbers are told from text


class Check(BaseModel):
    """Check of a run's output. Without any of them, only the exit code counts.

    Attributes:
        file: File that the program writes, whose content must be the reference's.
        stdout: Whether what it prints must be the reference's.
        tolerance: Largest difference of a number in ``file``, relative to numbers above 1.
        command: Command that is run after the program; 0 is right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path | None = None
    stdout: bool = False
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    command: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        chosen = [name for name in ("file", "stdout", "command") if getattr(self, name)]
        if len(chosen) > 1:
            raise ValueError(
                f"program.check takes one of file, stdout and command, but has {' and '.join(chosen)}; keep one"
            )
        if self.tolerance and (self.file is None or self.file.suffix not in TOLERANT_FILES):
            raise ValueError(
                f"program.check.tolerance={self.tolerance:g} is for numbers in a file, but program.check.file is "
                f"{self.file}; name one that ends in {', '.join(TOLERANT_FILES)}"
            )
        if self.command is not None:
            split("program.check.command", self.command)
        return self

    @property
    def is_of_the_directory(self) -> bool:
        """Whether it reads what a run leaves in its directory, so that runs have to take turns."""
        return self.file is not None or self.command is not None


def split(key: str, text: str) -> list[str]:
    """Return the words of a command line as a shell has them.

    Raises:
        ValueError: If a quote is not closed; the message names the key.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{key} must be quoted as for a shell, but is {text!r}: {str(error).lower()}") from None


def _text(value: Any) -> Any:
    """Return a number of the command line as it is passed on."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class Program(WorkloadConfig):
    """Program of the user's, which each trial runs in a fresh interpreter.

    Attributes:
        script: Path of the script.
        module: Name of the module, as for ``python -m``.
        target: Function that is called with the cache, such as ``mypkg.bench:run``; of ``callable`` alone.
        args: Arguments, quoted as for a shell.
        directory: Directory that it runs in.
        environment: Variables of its environment, beside those of the sweep.
        python: Interpreter that runs it.
        timeout: Seconds that one run may take; None for ``runner.timeout_seconds``.
        check: What a run's output is held against.
        warm_runs: Runs before each measured one, whose figures are dropped.
        repeat: Runs that record the requests of the reference; two tell whether requests repeat.
        source: Hash of the program's files, so that results of another version are not taken for its own.
        jax: Version of JAX in the interpreter.
    """

    name: Literal["program", "callable"]
    requests: NonNegativeInt = 0  # nobody knows ahead
    script: Path | None = None
    module: str | None = None
    target: str | None = None
    args: Annotated[str, BeforeValidator(_text)] = ""
    directory: Path
    environment: dict[str, Annotated[str, BeforeValidator(_text)]] = Field(default_factory=dict)
    python: Path
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    check: Check = Check()
    warm_runs: NonNegativeInt = 0
    repeat: PositiveInt = 1
    source: str = ""
    jax: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "callable":
            if self.target is None:
                raise ValueError("program.target is missing; name a function, such as program.target=mypkg.bench:run")
        elif (self.script is None) == (self.module is None):
            state = "neither is given" if self.script is None else f"both are given, {self.script} and {self.module}"
            raise ValueError(
                f"program.script or program.module must be given, one of them, but {state}; "
                "write program.script=train.py"
            )
        if self.target is not None and not all(
            part.isidentifier() for part in self.target.replace(":", ".").split(".")
        ):
            raise ValueError(f"program.target must be module:function, such as mypkg.bench:run, but is {self.target}")
        if self.target is not None and self.target.count(":") != 1:
            raise ValueError(f"program.target must be module:function, such as mypkg.bench:run, but is {self.target}")
        split("program.args", self.args)
        return self

    @property
    def kind(self) -> str:
        """Kind of the program: ``script``, ``module`` or ``target``."""
        return "target" if self.target is not None else "script" if self.script is not None else "module"

    @property
    def what(self) -> str:
        """Path of the script, or name of the module or of the target."""
        return str(getattr(self, self.kind))

    @property
    def words(self) -> list[str]:
        """Arguments, word by word."""
        return split("program.args", self.args)

    @property
    def title(self) -> str:
        """Name of the script's file, of the module or of the target."""
        return self.script.name if self.script is not None else self.what

    @property
    def label(self) -> str:
        """Short description: ``train.py --epochs 1``."""
        return f"{self.title} {self.args}".rstrip()

    @property
    def runs_of_reference(self) -> int:
        """Number of runs of a reference: those that record, and one under ``jax.jit`` alone."""
        return self.repeat + 1
