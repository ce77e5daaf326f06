"""Which devices are found, what is refused, and what a process held to one sees. ``nvidia-smi`` is a script here."""

import json
import os
import subprocess
import sys

import pytest

from jaxcache.lab.running import memory_check as machine
from jaxcache.lab.running.device import find_devices
from jaxcache.lab.running.gpus import find_gpus, jax_can_use_gpus
from jaxcache.lab.trial import Device

NAMES = ("GPU-11111111-aaaa", "GPU-22222222-bbbb", "GPU-33333333-cccc")
MIB = 1024**2


@pytest.fixture
def three_gpus(tmp_path, monkeypatch):
    """A machine on which ``nvidia-smi -L`` lists three GPUs."""
    fake_nvidia_smi(tmp_path, monkeypatch, "".join(f"GPU {i}: NVIDIA X (UUID: {n})\n" for i, n in enumerate(NAMES)))


def fake_nvidia_smi(folder, monkeypatch, listed, code=0):
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{listed}END\nexit {code}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def indices(*words, **settings):
    return [(device.platform, device.index) for device in find_devices(*words, **settings)]


def held_to(device, **environment):
    """Return the environment and the threads of a process that was held to a device, and what it made of it."""
    program = (
        "import json, os, sys\n"
        "from jaxcache.lab.running.device import pin_to_device\n"
        "from jaxcache.lab.trial import Device\n"
        "told = {}\n"
        "try:\n"
        "    told['device'] = pin_to_device(Device.model_validate_json(sys.argv[1]))\n"
        "    import jax, jax.numpy as jnp\n"
        "    jax.block_until_ready(jnp.ones((300, 300)) @ jnp.ones((300, 300)))\n"
        "    names = [open(f'/proc/self/task/{t}/comm').read().strip() for t in os.listdir('/proc/self/task')]\n"
        "    told['pool'] = sum('Eigen' in name for name in names)\n"
        "except RuntimeError as error:\n"
        "    told['error'] = str(error)\n"
        "print(json.dumps({**told, **os.environ}))\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "XLA_"))}
    done = subprocess.run(
        [sys.executable, "-c", program, device.model_dump_json()], env={**kept, **environment}, capture_output=True,
        text=True, check=True, timeout=120,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def test_cpu_slots_share_the_cores_evenly():
    cores = len(os.sched_getaffinity(0))
    slots = find_devices("cpu", cores)
    assert [len(slot.cores) for slot in slots] == [1] * cores
    assert len({core for slot in slots for core in slot.cores}) == cores
    with pytest.raises(ValueError, match=f"runner.workers must be at most {cores}"):
        find_devices("cpu", cores + 1)


def test_every_gpu_is_a_worker_unless_some_are_named(three_gpus):
    assert indices("gpu") == [("gpu", 0), ("gpu", 1), ("gpu", 2)]
    assert indices("gpu", 2) == [("gpu", 0), ("gpu", 1)]
    assert indices("gpu", gpus=[2, 0]) == indices("auto", gpus=[2, 0]) == [("gpu", 2), ("gpu", 0)]
    assert {device.memory_fraction for device in find_devices("gpu", gpu_memory_fraction=0.5)} == {0.5}


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"gpus": [0, 7]}, r"runner\.gpus=\[0, 7\] names GPU 7, but there are only GPUs 0 to 2; null means every one"),
     ({"gpus": [1, 1]}, r"runner\.gpus must name each GPU once, such as \[0,1\], but is \[1, 1\]"),
     ({"gpus": []}, r"runner\.gpus must name each GPU once"),
     ({"gpus": [0], "workers": 2}, r"runner\.workers must be at most 1, the number of GPUs, but is 2"),
     ({"workers": 4}, r"runner\.workers must be at most 3, the number of GPUs, but is 4"),
     ({"platform": "cpu", "gpus": [0]}, r"runner\.gpus=\[0\] needs runner\.device=gpu, but runner\.device is cpu")],
)  # fmt: skip
def test_gpus_that_are_not_there_are_refused(three_gpus, settings, message):
    with pytest.raises(ValueError, match=message):
        find_devices(**{"platform": "gpu", **settings})


def test_gpus_that_are_not_alike_are_refused_with_those_that_are(tmp_path, monkeypatch):
    models = ("NVIDIA A100", "NVIDIA H100", "NVIDIA A100")
    listed = "".join(f"GPU {i}: {models[i]} (UUID: {name})\n" for i, name in enumerate(NAMES))
    fake_nvidia_smi(tmp_path, monkeypatch, listed)
    with pytest.raises(
        ValueError, match=r"must be alike, but they are NVIDIA A100, NVIDIA H100; .*runner.gpus=\[0,2\]"
    ):
        find_devices("gpu")
    first, second = find_devices("gpu", gpus=[0, 2])
    assert (first.slot, second.identity) == ("gpu NVIDIA A100", NAMES[2])


def test_a_machine_without_gpus_says_so(tmp_path, monkeypatch):
    fake_nvidia_smi(tmp_path, monkeypatch, "NVIDIA-SMI has failed\n", code=9)
    with pytest.raises(ValueError, match=r"runner\.device is gpu, but .* write runner\.device=cpu"):
        find_devices("gpu")
    with pytest.raises(ValueError, match=r"runner\.gpus is \[0\], but nvidia-smi lists no GPU"):
        find_devices("auto", gpus=[0])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # left in a shell's profile
    assert {device.platform for device in find_devices()} == {"cpu"}


@pytest.mark.parametrize(
    ("visible", "found"),
    [("2", ["2"]), ("2,0", ["2", "0"]), ("", []), ("-1", []), ("1,-1,0", ["1"]), ("GPU-22", ["GPU-22"]),
     (f"{NAMES[2]}, {NAMES[0]}", [NAMES[2], NAMES[0]])],
)  # fmt: skip
def test_what_the_environment_hides_is_not_used(three_gpus, monkeypatch, visible, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert find_gpus() == found
    if found:
        assert indices("gpu") == [("gpu", index) for index in range(len(found))]


@pytest.mark.parametrize(("visible", "absent"), [("0,3", "GPU 3, but this machine has 3"), ("GPU-9", "GPU-9, which")])
def test_an_environment_that_names_a_gpu_that_is_not_there_is_refused(three_gpus, monkeypatch, visible, absent):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ValueError, match=f"CUDA_VISIBLE_DEVICES={visible} names {absent}"):
        find_devices("gpu")


def test_partitions_of_a_gpu_can_be_named(tmp_path, monkeypatch):
    listed = f"GPU 0: NVIDIA X (UUID: {NAMES[0]})\n  MIG 1g.5gb Device 0: (UUID: MIG-4444-dddd)\n"
    fake_nvidia_smi(tmp_path, monkeypatch, listed)
    assert find_gpus() == ["0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-4444-dddd")
    assert find_gpus() == ["MIG-4444-dddd"]


def test_gpus_are_chosen_by_themselves_only_where_jax_can_use_them(three_gpus, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert not jax_can_use_gpus()  # the lock file has no CUDA
    assert {device.platform for device in find_devices()} == {"cpu"}
    (tmp_path / "jax_plugins" / "xla_cuda13").mkdir(parents=True)
    (tmp_path / "jax_plugins" / "xla_cuda13" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {device.platform for device in find_devices()} == {"gpu"}
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert {device.platform for device in find_devices()} == {"cpu"}


@pytest.mark.parametrize(
    ("index", "visible", "shown"),
    [(1, None, "1"), (0, "3", "3"), (1, "5,3", "3"), (1, "GPU-22,GPU-11", "GPU-11"), (0, "MIG-44", "MIG-44")],
)
def test_a_gpu_is_counted_among_those_that_are_visible(index, visible, shown):
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    told = held_to(Device(platform="gpu", index=index), **environment)
    assert told["CUDA_VISIBLE_DEVICES"] == shown
    assert told.get("CUDA_DEVICE_ORDER") == ("PCI_BUS_ID" if visible is None else None)
    assert told["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert told["error"] == f"asked for GPU {index}, but JAX started cpu: is a CUDA jaxlib installed?"


def test_memory_of_a_gpu_can_be_taken_ahead_and_a_hidden_gpu_is_an_error():
    told = held_to(Device(platform="gpu", index=0, memory_fraction=0.25))
    assert (told["XLA_PYTHON_CLIENT_PREALLOCATE"], told["XLA_PYTHON_CLIENT_MEM_FRACTION"]) == ("true", "0.25")
    told = held_to(Device(platform="gpu", index=2), CUDA_VISIBLE_DEVICES="0,1")
    assert told["error"] == "asked for GPU 2, but CUDA_VISIBLE_DEVICES=0,1 leaves 2"


def test_xla_starts_as_many_threads_as_a_slot_has_cores():
    cores = sorted(os.sched_getaffinity(0))
    for count in {1, len(cores)}:
        told = held_to(Device(platform="cpu", index=0, cores=tuple(cores[:count])))
        assert told["pool"] == count
        assert told["OMP_NUM_THREADS"] == str(count)
        assert told["device"] == f"cpu on {count} of {os.cpu_count()} cores"


def test_more_workers_than_memory_is_refused_with_a_number_that_fits(monkeypatch, tmp_path):
    there = machine.machine_bytes()
    machine.check_memory(2, None)
    machine.check_memory(2, there // 2)
    with pytest.raises(ValueError, match=r"for 4 workers is more than the .* of this machine; write runner\.workers=3"):
        machine.check_memory(4, there // 3)
    with pytest.raises(ValueError, match=r"for 1 worker is more .* write at most runner\.memory_limit=\d+MiB"):
        machine.check_memory(1, there + 1)


def test_a_container_s_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_CONTROL_GROUP", tmp_path)
    whole = machine.machine_bytes()
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.machine_bytes() == whole
    (tmp_path / "memory.max").write_text(f"{700 * MIB}\n")
    assert machine.machine_bytes() == 700 * MIB
    warning = machine.memory_warning(3, None, 32 * MIB)
    assert warning is not None
    assert "3 workers may need 996 MiB of memory" in warning
    assert "write runner.workers=2" in warning
    assert machine.memory_warning(2, None, 32 * MIB) is None
    assert machine.memory_warning(3, 200 * MIB, 32 * MIB) is None  # each is ended before
