"""Notebook of the tour, made from the program: each section's function is a heading, a text and a cell."""

import ast
import contextlib
import io
import json
import textwrap
from typing import Any

Cell = dict[str, Any]
_SKIPPED = {"section", "main"}  # what prints headings, and what calls the sections


def from_program(text: str) -> list[Cell]:
    """Return the cells: the text, imports and helpers, then each section in the order in which ``main`` calls it."""
    tree = ast.parse(text)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    sections = [name for name in _names_in(functions["main"]) if name in functions]
    helpers = [
        _source(text, node)
        for node in tree.body
        if (
            isinstance(node, ast.Import | ast.ImportFrom) or getattr(node, "name", "") in set(functions) - set(sections)
        )
        and getattr(node, "name", "") not in _SKIPPED
    ]
    return [
        _markdown("# A tour of jaxcache"),
        _code("\n".join(helpers) + '\n\ncache = JitCache("256MiB", eviction="gdsf")'),
        *(cell for name in sections for cell in _section(text, functions[name])),
    ]


def _section(text: str, function: ast.FunctionDef) -> list[Cell]:
    heading = next(
        statement.value.args[0].value
        for statement in function.body
        if isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Call)
        and ast.unparse(statement.value.func) == "section"
        and isinstance(statement.value.args[0], ast.Constant)
    )
    first = function.body[2]
    lines = text.splitlines()[first.lineno - 1 : function.end_lineno]
    return [_markdown(f"## {heading}\n\n{ast.get_docstring(function)}"), _code(textwrap.dedent("\n".join(lines)))]


def _names_in(function: ast.FunctionDef) -> list[str]:
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    return [node.id for node in sorted(names, key=lambda node: (node.lineno, node.col_offset))]


def _source(text: str, node: ast.stmt) -> str:
    source = ast.get_source_segment(text, node) or ""
    return f"\n\n{source}\n" if isinstance(node, ast.FunctionDef) else source


def _markdown(source: str) -> Cell:
    return {"cell_type": "markdown", "metadata": {}, "source": source.splitlines(keepends=True)}


def _code(source: str) -> Cell:
    lines = source.strip().splitlines(keepends=True)
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": lines}


def run(cells: list[Cell]) -> list[Cell]:
    """Return the cells with what each prints under IPython.

    Raises:
        RuntimeError: If a cell fails.
    """
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))  # else it writes into the home
    ran = []
    for number, cell in enumerate(cells, 1):
        if cell["cell_type"] == "code":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                result = shell.run_cell("".join(cell["source"]))
            if not result.success:
                raise RuntimeError(
                    f"cell {number} of the tour failed: {result.error_before_exec or result.error_in_exec}"
                )
            text = printed.getvalue().splitlines(keepends=True)
            outputs = [{"name": "stdout", "output_type": "stream", "text": text}] if text else []
            cell = {**cell, "execution_count": number, "outputs": outputs}
        ran.append(cell)
    return ran


def dump(cells: list[Cell]) -> str:
    """Return the notebook's file, format 4.5."""
    named = [{**cell, "id": f"cell-{number}"} for number, cell in enumerate(cells)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = {"cells": named, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
