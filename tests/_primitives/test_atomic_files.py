"""Files written in one step: whole for every reader, through kills, errors, interrupts and other writers."""

import os
import signal
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from jaxcache._primitives.atomic_files import replacing, write_file
from tests._support.interpreters import start_python

WRITER = """
import sys, time
from pathlib import Path
from jaxcache._primitives.atomic_files import replacing, write_file
path = Path(sys.argv[1])
"""


def started(program: str, path: Path) -> subprocess.Popen[str]:
    return start_python(WRITER + program, path, stdout=subprocess.PIPE)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("content", ["", "text: é\n", b"\x00bytes\xff" * 100_000])
def test_a_file_holds_what_was_written_and_nothing_is_left_beside_it(tmp_path, content, durable):
    path = tmp_path / "file"
    for _ in range(2):
        write_file(path, content, durable=durable)
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
        assert names(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, in which no file can be made")
def test_where_no_file_can_be_made_the_error_is_raised():
    with pytest.raises(FileNotFoundError):
        write_file("/proc/new", "content", durable=False)


def test_a_name_of_any_length_that_the_file_system_takes_can_be_written(tmp_path):
    path = tmp_path / ("é" * 127)  # 254 bytes of the 255
    write_file(path, "content", durable=False)
    assert (path.read_text(), len(names(tmp_path))) == ("content", 1)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_the_mode_of_the_former_file_is_kept_and_one_that_is_asked_for_is_set(tmp_path, mode):
    kept, asked = tmp_path / "kept", tmp_path / "asked"
    kept.write_text("former")
    kept.chmod(mode)
    write_file(kept, "new", durable=False)
    write_file(asked, "new", durable=False, mode=mode)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (kept, asked)] == [mode, mode]


def test_a_new_file_has_the_mode_that_open_gives(tmp_path):
    write_file(tmp_path / "ours", "", durable=False)
    (tmp_path / "theirs").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


def test_a_secret_is_never_readable_by_others_under_any_name(tmp_path):
    with replacing(tmp_path / "secret", durable=False, mode=0o600) as file:
        file.write(b"secret")
        (only,) = tmp_path.iterdir()
        assert stat.S_IMODE(only.stat().st_mode) == 0o600


def test_a_symbolic_link_is_replaced_and_its_target_left_alone(tmp_path):
    (tmp_path / "target").write_text("target")
    (tmp_path / "link").symlink_to("target")
    write_file(tmp_path / "link", "new", durable=False)
    assert (tmp_path / "target").read_text() == "target"
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_or_interrupt_while_writing_leaves_the_former_content_alone(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("former")

    def write_half() -> None:
        with replacing(path, durable=True) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert (path.read_text(), names(tmp_path)) == ("former", ["file"])


def test_a_folder_in_the_place_of_the_file_or_none_around_it_is_an_error_that_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "folder", "content", durable=False)
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "none" / "file", "content", durable=False)
    assert names(tmp_path) == ["folder"]


def test_a_full_disk_leaves_the_former_content_alone(tmp_path):
    path = tmp_path / "file"
    path.write_text("former")
    program = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_file(path, b"x" * 5000, durable=False)
except OSError as error:
    print("refused", flush=True)
"""
    with started(program, path) as writer:
        assert writer.communicate(timeout=120)[0] == "refused\n"
    assert (path.read_text(), names(tmp_path)) == ("former", ["file"])


def test_a_writer_that_is_killed_in_the_middle_loses_nothing_and_the_next_one_tidies_up(tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_text("former")
    program = """
with replacing(path, durable=False) as file:
    file.write(b"half")
    print("writing", flush=True)
    time.sleep(600)
"""
    with started(program, path) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        alive = [name for name in names(tmp_path) if name != "file"]
        write_file(path, "between", durable=False)  # the other writer lives: its file stays
        assert names(tmp_path) == [*alive, "file"]
        writer.send_signal(signal.SIGKILL)
        writer.wait(timeout=60)
    assert path.read_text() == "between"
    write_file(other, "other", durable=False)  # not this file's temporary
    assert names(tmp_path) == [*alive, "file", "other"]
    write_file(path, "new", durable=False)
    assert (path.read_text(), names(tmp_path)) == ("new", ["file", "other"])


def test_concurrent_writers_leave_the_content_of_one_of_them_and_readers_see_only_whole_contents(tmp_path):
    path = tmp_path / "file"
    contents = {str(digit) * 50_000 for digit in range(4)}
    path.write_text("0" * 50_000)
    program = """
for _ in range(100):
    write_file(path, path.read_text()[:1] * 50_000, durable=False)
"""
    seen: set[str] = set()

    def write(content: str) -> None:
        for _ in range(100):
            write_file(path, content, durable=False)

    threads = [threading.Thread(target=write, args=(content,)) for content in sorted(contents)]
    with started(program, path) as process:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) or process.poll() is None:
            seen.add(path.read_text())
    assert process.returncode == 0
    assert seen <= contents
    assert path.read_text() in contents
    assert names(tmp_path) == ["file"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forks in a process with threads
@pytest.mark.filterwarnings("ignore:os.fork\\(\\) was called:RuntimeWarning")  # JAX may have threads by then
def test_a_child_forked_in_the_middle_neither_replaces_nor_removes_anything(tmp_path):
    path = tmp_path / "file"
    path.write_text("former")
    writing = replacing(path, durable=False)
    writing.__enter__().write(b"the parent's")
    child = os.fork()
    if not child:
        code = 1
        try:
            writing.__exit__(None, None, None)
            code = 0 if path.read_text() == "former" and len(names(tmp_path)) == 2 else 1
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]  # before the parent replaces the file
    writing.__exit__(None, None, None)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (path.read_text(), names(tmp_path)) == ("the parent's", ["file"])
