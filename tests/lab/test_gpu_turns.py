"""One process at a time on a GPU: threads and a real process that is killed. No GPU is needed to wait for one."""

import subprocess
import sys
import threading
import uuid

import pytest

from jaxcache.lab.running.gpu_lock import gpu_lock
from jaxcache.lab.trial import Device


@pytest.fixture
def gpu():
    return Device(platform="gpu", index=0, identity=f"GPU-{uuid.uuid4()}")


@pytest.fixture
def holder(gpu):
    """Another process whose turn it is, until it is killed."""
    program = (
        "import sys, threading, time\n"
        "from jaxcache.lab.running.gpu_lock import gpu_lock\n"
        "from jaxcache.lab.trial import Device\n"
        "with gpu_lock(Device.model_validate_json(sys.argv[1]), threading.Event()) as ours:\n"
        "    print(ours, flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, gpu.model_dump_json()], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()


def test_a_turn_comes_when_the_process_that_had_it_is_killed(gpu, holder):
    came = threading.Event()

    def take():
        with gpu_lock(gpu, threading.Event()) as ours:
            assert ours
            came.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not came.wait(1)
    holder.kill()
    thread.join(timeout=30)
    assert came.is_set()


def test_who_is_told_to_stop_does_not_get_a_turn(gpu, holder):
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with gpu_lock(gpu, stop) as ours:
        assert not ours


def test_another_gpu_and_cpu_cores_are_free(gpu, holder):
    for device in (gpu.model_copy(update={"identity": f"GPU-{uuid.uuid4()}"}), Device(platform="cpu", index=0)):
        with gpu_lock(device, threading.Event()) as ours:
            assert ours
