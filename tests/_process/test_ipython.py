"""The magic %%compiles says what a cell compiles."""

import pytest

import jaxcache

interactive = pytest.importorskip("IPython.core.interactiveshell", reason="IPython is not installed")


def test_a_cell_says_what_it_compiles(tmp_path, capsys):
    shell = interactive.InteractiveShell()
    jaxcache.load_ipython_extension(shell)
    shell.run_cell("import jax, numpy as np")
    page = tmp_path / "page.html"
    shell.run_cell_magic("compiles", str(page), "f = jax.jit(lambda x: x)\nf(np.ones(3))\nf(np.ones(4))")
    assert "went into compiling 2 programs; one change would spare" in capsys.readouterr().out
    assert page.exists()
    assert shell.user_ns["f"](1) == 1  # the cell ran in the shell
    capsys.readouterr()
    assert not shell.run_cell("%%compiles\n1 / 0").success
    assert capsys.readouterr().out.count("ZeroDivisionError") <= 2  # at the head and the foot of one traceback
    assert not shell.run_cell("%%compiles\nx = )").success
    out, err = capsys.readouterr()
    assert (out + err).count("SyntaxError") == 1
    assert shell.run_cell("%%compiles\n1 / 1").success
    jaxcache.unload_ipython_extension(shell)
    assert "compiles" not in shell.magics_manager.magics["cell"]
