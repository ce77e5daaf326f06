"""The documents are true of the code where that can be read from it: links, names, tests, locks, policies, version."""

import ast
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

import jaxcache

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
OF_JAX = {PROJECT / "docs" / "differences.md"}  # names JAX's own tests
TESTS = sorted(PROJECT.glob("tests/**/*.py"))
KINDS = re.compile(
    r"(threading\.(Lock|RLock|Condition|Event|Semaphore|BoundedSemaphore|Barrier|local|Thread)|asyncio\.(Event|Lock)"
    r"|fcntl\.(flock|lockf)|queue\.\w*Queue|FileLock|range_locks|ThreadPoolExecutor)"
)
BY_INHERITANCE = {"threading.local", "threading.Event"}


def document_id(path: Path) -> str:
    return str(path.relative_to(PROJECT))


class SynchronisationNames(ast.NodeVisitor):
    """The names of a module's locks, events, thread-locals, queues and threads."""

    def __init__(self, module: str) -> None:
        self.module, self.scope, self.of_module, self.names = module, [], set(), set()

    def visit_ClassDef(self, node):
        if BY_INHERITANCE & {ast.unparse(base) for base in node.bases}:
            self.names.add(".".join([*self.scope, node.name]))
        self.within(node)

    def visit_FunctionDef(self, node):
        if self.scope and self.scope[-1][0].islower():  # a function in a function
            self.generic_visit(node)
        else:
            self.within(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def within(self, node):
        self.scope.append(node.name)
        self.generic_visit(node)
        self.scope.pop()

    def visit_Global(self, node):
        self.of_module.update(node.names)

    def visit_Assign(self, node):
        for target in node.targets:
            self.assigned(target, node.value)

    def visit_AnnAssign(self, node):
        if node.value is not None:
            self.assigned(node.target, node.value)

    def assigned(self, target, value):
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for element, its_value in zip(target.elts, value.elts, strict=True):
                self.assigned(element, its_value)
        elif not (isinstance(value, ast.Call) and KINDS.fullmatch(ast.unparse(value.func))):
            self.visit(value)
        elif isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
            self.names.add(f"{self.scope[0]}.{target.attr}")
        elif not self.scope or target.id in self.of_module:
            self.names.add(f"{self.module}.{target.id}")
        else:
            self.names.add(".".join(self.scope))

    def visit_Call(self, node):
        if KINDS.fullmatch(ast.unparse(node.func)):
            self.names.add(".".join(self.scope))
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, str) and node.value.startswith("BEGIN IMMEDIATE"):
            self.names.add(".".join(self.scope))


def synchronisation_names(text: str, module: str) -> set[str]:
    visitor = SynchronisationNames(module)
    visitor.visit(ast.parse(text))
    return visitor.names


def test_names_of_locks_are_found_however_they_are_bound():
    text = """
import threading, fcntl, queue
lock = threading.Lock()
class Mine(threading.local): pass
class Cache:
    turns: object = threading.RLock()
    def __init__(self):
        self.over, self.count = threading.Event(), 0
        self.free: queue.SimpleQueue = queue.SimpleQueue()
        self.told = [threading.Thread(target=print)]
    def take(self):
        fcntl.flock(3, 1)
        db.execute("BEGIN IMMEDIATE")
def work():
    done = threading.Event()
    def inner():
        threading.Condition()
    return queue.Full
def after_fork():
    global lock
    lock = threading.Lock()
"""
    assert synchronisation_names(text, "room") == {
        "room.lock", "Mine", "Cache", "Cache.over", "Cache.free", "Cache.__init__", "Cache.take", "work",
    }  # fmt: skip


def test_every_lock_event_local_queue_and_thread_is_documented_and_none_that_is_gone():
    sources = [*PROJECT.glob("src/jaxcache/**/*.py"), *PROJECT.glob("flows/**/*.py")]
    in_code = set().union(*(synchronisation_names(path.read_text(), path.stem) for path in sources))
    text = (PROJECT / "docs" / "concurrency.md").read_text()
    assert set(re.findall(r"^\| `([\w.]+)` \|", text, flags=re.MULTILINE)) == in_code


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_id)
def test_every_link_leads_to_a_file(document):
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path not in OF_JAX], ids=document_id)
def test_every_test_benchmark_and_file_that_a_document_names_is_there(document):
    text = document.read_text()
    functions = {name for path in TESTS for name in re.findall(r"def (test_\w+)\(", path.read_text())}
    assert set(re.findall(r"`(test_\w+)`", text)) <= functions
    assert set(re.findall(r"\b(test_\w+\.py)\b", text)) <= {path.name for path in TESTS}
    named = re.findall(r"`((?:tests|benchmarks|conf|examples)/[\w/.-]+)`", text)
    assert [path for path in named if not (PROJECT / path).exists()] == []
    programs = re.findall(r"`(?:python -m )?benchmarks\.(\w+)", text)
    assert [name for name in programs if not (PROJECT / "benchmarks" / f"{name}.py").exists()] == []


def test_every_policy_is_in_the_documents_and_can_be_swept():
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", (PROJECT / "docs" / "choosing.md").read_text(), flags=re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(jaxcache.POLICIES) <= names
    assert set(jaxcache.POLICIES) == {path.stem for path in (PROJECT / "conf" / "eviction").glob("*.yaml")}


def test_the_readme_names_every_document():
    text = (PROJECT / "README.md").read_text()
    names = {document_id(path) for path in DOCUMENTS if "reference" not in path.parts}
    assert {name for name in names if name not in text} == {"README.md"}


def test_the_changelog_tells_of_the_version_at_hand_in_sixty_lines():
    lines = (PROJECT / "CHANGELOG.md").read_text().splitlines()
    assert len(lines) <= 60
    headings = [line for line in lines if line.startswith("## ")]
    versions = [re.fullmatch(r"## (\d+\.\d+\.\d+) \(\d{4}-\d{2}-\d{2}\)", line) for line in headings]
    released = versions[1:] if headings[0] == "## Unreleased" else versions
    assert [version and version[1] for version in released] == [jaxcache.__version__, "0.1.0"]


def test_the_license_files_are_there():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert all((PROJECT / name).is_file() for name in project["license-files"])


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "docs")
    import measured

    return measured


def test_every_figure_of_readme_and_measured_page_is_one_of_the_files_of_the_benchmarks(measured):
    assert measured.differences(measured.read_results()) == []


def test_a_figure_that_is_changed_by_hand_or_that_no_file_holds_is_named(measured, monkeypatch, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(measured.README.read_text().replace("613", "631"))
    monkeypatch.setattr(measured, "README", readme)
    (line,) = measured.differences(measured.read_results())
    assert line.startswith("README.md: | about")
    assert "(under `jax.jit` 631)" in line
    without = [result for result in measured.read_results() if result.benchmark != "memory"]
    with pytest.raises(measured.MissingFigure, match="no figure memory / growth / jaxcache"):
        measured.differences(without)


def test_of_each_version_the_newest_file_that_has_a_figure_counts(measured):
    def result(day, jax, **values):
        return measured.Result("loops", jax, datetime(2026, 1, day, tzinfo=UTC), "a machine", values)

    figures = measured.Figures([result(4, "0.10", b=4), result(3, "0.10", a=3), result(2, "0.9", a=2)])
    assert figures.versions("loops") == ["0.9", "0.10"]
    assert [figures.value("loops", "a", jax=jax) for jax in (None, "0.10", "0.9")] == [3, 3, 2]
    assert figures.value("loops", "b") == 4
    assert figures.dates() == "2026-01-02 to 2026-01-04"
    with pytest.raises(measured.MissingFigure, match=r"loops / b on JAX 0\.9"):
        figures.value("loops", "b", jax="0.9")


def test_figures_older_than_their_code_are_marked(measured):
    assert measured.commits_since(datetime(2090, 1, 1, tzinfo=UTC), ("_cache",)) == 0
    if (PROJECT / ".git").exists():
        assert measured.commits_since(datetime(2000, 1, 1, tzinfo=UTC), ("_cache", "_jax")) > 0
    assert {result.benchmark for result in measured.read_results()} <= set(measured.CODE)
    code = {name for names in measured.CODE.values() for name in names}
    folders = {name if name.startswith("flows") else f"src/jaxcache/{name}" for name in code}
    assert [folder for folder in folders if not (PROJECT / folder).exists()] == []
