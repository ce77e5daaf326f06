"""Programs of the gallery: run each as its page shows it, and keep what it printed.

    python docs/gallery.py            # all, or: python docs/gallery.py solver_closures suite

``make examples`` does so. ``make docs`` makes the pages from the programs and what is kept in ``examples/outputs``.
"""

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
EXAMPLES = PROJECT / "examples"
OUTPUTS = EXAMPLES / "outputs"
TOUR, NOTEBOOK = EXAMPLES / "tour.py", EXAMPLES / "tour.ipynb"
_README_OUTPUT = re.compile(r"growing_data\.py\n```\n\n```\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Example:
    """One program of the gallery.

    Attributes:
        name: Of its file, without the ending.
        commands: What is run, in order; the words of each, without ``python``.
        libraries: What it needs beside the core.
    """

    name: str
    commands: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Its file."""
        return EXAMPLES / f"{self.name}.py"

    @property
    def output(self) -> Path:
        """What its last recorded run printed."""
        return OUTPUTS / f"{self.name}.txt"

    @property
    def shown_commands(self) -> tuple[str, ...]:
        """The commands as a person types them."""
        return tuple(f"python {words}" for words in self.commands or (f"examples/{self.name}.py",))


README_EXAMPLE = Example("growing_data", ("-m jaxcache run --memory-limit 8MiB --summary examples/growing_data.py",))
SUITE = Example("suite", ("-m pytest -q --jaxcache .compiles examples/suite.py",) * 2, ("pytest",))
PROGRAMS = (
    Example("serving_lengths"),
    Example("solver_closures"),
    Example("parameter_fit"),
    Example("monte_carlo_prices", libraries=("scipy",)),
    Example("equinox_ragged_batches", libraries=("equinox",)),
    Example("flax_progressive_sizes", libraries=("flax", "optax")),
    Example("diffrax_observations", libraries=("diffrax",)),
    Example("numpyro_growing_data", libraries=("numpyro",)),
)
GALLERY = (README_EXAMPLE, *PROGRAMS, SUITE)


def run(example: Example) -> str:
    """Run an example in processes of its own; return what it printed, the second command with what the first left."""
    printed = []
    with tempfile.TemporaryDirectory() as directory:
        for words in example.shown_commands:
            command = words.replace("examples/", f"{EXAMPLES}/").split()[1:]
            done = subprocess.run(
                [sys.executable, *command], cwd=directory, capture_output=True, text=True, timeout=300, check=False
            )
            if done.returncode:
                raise RuntimeError(f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
            printed.append(done.stdout)
    return "".join(printed)


def output_of(example: Example) -> str:
    """Return what is kept of an example's output; that of the README's example stands there alone."""
    if example is not README_EXAMPLE:
        return example.output.read_text()
    found = _README_OUTPUT.search((PROJECT / "README.md").read_text())
    if found is None:
        raise ValueError("README.md must show a run of examples/growing_data.py with its output, but does not")
    return found[1]


def gallery_page() -> str:
    """Return the gallery as markdown: of each program the first line, the commands, the output and the text."""
    parts = [
        "# Gallery\n",
        "Programs that people write: what happens under plain `jax.jit`, and what changes it. Sizes are what holding\n"
        "the programs takes, by the [model](cache-jit.md) that limits count by. `'jaxcache[examples]'` installs\n"
        "the libraries; `make examples` runs every program again. The [tour](tour.md) walks through the library.\n",
    ]
    for example in GALLERY:
        text = example.path.read_text()
        title = example.name.replace("_", " ").capitalize()
        summary = text.split('"""')[1].split("\n\n")[0].replace("``", "`")
        needs = f" Needs {', '.join(example.libraries)}." if example.libraries else ""
        commands = "\n".join(example.shown_commands)
        parts.append(
            f"## {title}\n\n{summary}{needs}\n\n```\n{commands}\n```\n\n```\n{output_of(example).strip()}\n```\n\n"
            f"[{example.path.name}](examples/{example.path.name})\n\n```python\n{text.strip()}\n```\n"
        )
    return "\n".join(parts)


def tour_page() -> str:
    """Return the notebook of the tour as markdown, with the outputs that it keeps."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    parts = [
        "# A tour\n",
        "Program: [tour.py](examples/tour.py); notebook: [tour.ipynb](examples/tour.ipynb); times are of a run.\n",
    ]
    for cell in cells[1:]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(f"{source}\n")
            continue
        parts.append(f"```python\n{source}\n```\n")
        printed = "".join("".join(output["text"]) for output in cell["outputs"])
        if printed:
            parts.append(f"```\n{printed.strip()}\n```\n")
    return "\n".join(parts)


def main(names: list[str]) -> int:
    """Run the examples that are named, or all; return the exit code."""
    unknown = set(names) - {example.name for example in (*PROGRAMS, SUITE)} - {"tour"}
    if unknown:
        print(f"gallery: there is no example {', '.join(sorted(unknown))} in {EXAMPLES}", file=sys.stderr)
        return 2
    OUTPUTS.mkdir(exist_ok=True)
    for example in (*PROGRAMS, SUITE):
        if not names or example.name in names:
            print(f"== {example.name}\n{_keep(example)}")
    if not names or "tour" in names:
        import tour_notebook

        NOTEBOOK.write_text(tour_notebook.dump(tour_notebook.run(tour_notebook.from_program(TOUR.read_text()))))
        print("== tour.ipynb")
    return 0


def _keep(example: Example) -> str:
    printed = run(example)
    if example is SUITE:  # without the costliest tests, which are others in each run
        printed = re.sub(r"; costliest: .*", "", printed)
    example.output.write_text(printed)
    return printed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
