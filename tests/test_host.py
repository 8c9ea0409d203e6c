"""Facts about machines, from imitated ones and this one; counters of disturbance; pinning."""

import json
import os
import threading
from pathlib import Path

import pytest

from edgesched.bridge.machine import host
from edgesched.bridge.machine.host import Disturbance, HostError, Snapshot

PI_4 = "Raspberry Pi 4 Model B Rev 1.4"


def arm_cpu(cpu, part):
    return f"processor\t: {cpu}\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"


class Machine:
    """Files of ``proc``, ``sys`` and ``etc`` below a folder."""

    def __init__(self, root):
        self.root = root

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def cpu(self, cpu, *, lowest_khz, highest_khz, now_khz, governor, capacity=None):
        folder = f"sys/devices/system/cpu/cpu{cpu}"
        self.write(f"{folder}/cpufreq/cpuinfo_min_freq", f"{lowest_khz}\n")
        self.write(f"{folder}/cpufreq/cpuinfo_max_freq", f"{highest_khz}\n")
        self.write(f"{folder}/cpufreq/scaling_cur_freq", f"{now_khz}\n")
        self.write(f"{folder}/cpufreq/scaling_governor", f"{governor}\n")
        if capacity is not None:
            self.write(f"{folder}/cpu_capacity", f"{capacity}\n")


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def pi(machine):
    machine.write("sys/devices/system/cpu/online", "0-3\n")
    machine.write(
        "proc/cpuinfo",
        "".join(arm_cpu(cpu, "0xd08") for cpu in range(4)) + f"Revision\t: c03114\nModel\t\t: {PI_4}\n",
    )
    for cpu in range(4):
        machine.cpu(cpu, lowest_khz=600000, highest_khz=1800000, now_khz=600000, governor="ondemand")
    machine.write("proc/device-tree/model", f"{PI_4}\0")
    machine.write("proc/meminfo", "MemTotal:  3884360 kB\nMemAvailable: 3500000 kB\nSwapTotal: 102396 kB\n")
    machine.write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
    machine.write("proc/sys/kernel/osrelease", "6.12.34+rpt-rpi-v8\n")
    machine.write("etc/os-release", 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    machine.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    machine.write("sys/class/thermal/thermal_zone0/temp", "48199\n")
    return machine


def vcgencmd(machine, monkeypatch, bits):
    file = machine.root / "bin/vcgencmd"
    machine.write("bin/vcgencmd", f"#!/bin/sh\necho throttled={bits:#x}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", str(file.parent), prepend=os.pathsep)


def test_a_raspberry_pi_4(pi, monkeypatch):
    vcgencmd(pi, monkeypatch, 0x50001)
    facts = host.facts(pi.root)
    assert facts["board"] == PI_4
    assert facts["cpu"] == "Cortex-A72"
    assert facts["clusters"] == [
        {
            "cpus": (0, 1, 2, 3),
            "core": "Cortex-A72",
            "capacity": None,
            "min_hz": 600e6,
            "max_hz": 1.8e9,
            "current_hz": 600e6,
            "governor": "ondemand",
        }
    ]
    assert facts["memory"] == {
        "total_bytes": 3884360 * 1024,
        "available_bytes": 3500000 * 1024,
        "swap_bytes": 102396 * 1024,
    }
    assert facts["huge_pages"] == "madvise"
    assert facts["kernel"] == "6.12.34+rpt-rpi-v8"
    assert facts["os"] == "Debian GNU/Linux 12 (bookworm)"
    assert facts["temperatures"] == {"thermal_zone0 cpu-thermal": 48.199}
    assert facts["throttled_now"] == ["under-voltage"]
    assert facts["throttled_since_start"] == ["under-voltage", "throttled"]
    assert facts["virtualisation"] is None


def test_unequal_cores_are_two_clusters(machine):
    machine.write("sys/devices/system/cpu/online", "0-5\n")
    parts = ["0xd03"] * 4 + ["0xd08"] * 2
    machine.write("proc/cpuinfo", "".join(arm_cpu(cpu, part) for cpu, part in enumerate(parts)))
    for cpu in range(4):
        machine.cpu(
            cpu, lowest_khz=408000, highest_khz=1416000, now_khz=1416000, governor="performance", capacity=485
        )
    for cpu in (4, 5):
        machine.cpu(
            cpu, lowest_khz=408000, highest_khz=1800000, now_khz=1800000, governor="schedutil", capacity=1024
        )
    little, big = host.clusters(machine.root)
    assert (little.cpus, little.core, little.capacity, little.max_hz) == (
        (0, 1, 2, 3),
        "Cortex-A53",
        485,
        1.416e9,
    )
    assert (big.cpus, big.core, big.capacity, big.governor) == ((4, 5), "Cortex-A72", 1024, "schedutil")
    assert host.facts(machine.root)["cpu"] == "Cortex-A53 + Cortex-A72"


def test_an_unknown_arm_core_shows_its_number(machine):
    machine.write("proc/cpuinfo", arm_cpu(0, "0xfff"))
    assert host.clusters(machine.root)[0].core == "Arm part 0xfff"


def test_processors_that_are_off_are_left_out(pi):
    pi.write("sys/devices/system/cpu/online", "0,2-3\n")
    assert host.clusters(pi.root)[0].cpus == (0, 2, 3)


def test_x86_is_one_cluster_whatever_its_frequencies(machine):
    machine.write("sys/devices/system/cpu/online", "0-1\n")
    block = (
        "processor\t: {}\nvendor_id\t: GenuineIntel\nmodel name\t: Some CPU\nflags\t\t: fpu hypervisor\n\n"
    )
    machine.write("proc/cpuinfo", block.format(0) + block.format(1))
    machine.cpu(0, lowest_khz=800000, highest_khz=4700000, now_khz=2000000, governor="powersave")
    machine.cpu(1, lowest_khz=800000, highest_khz=4900000, now_khz=900000, governor="powersave")
    (cluster,) = host.clusters(machine.root)
    assert (cluster.cpus, cluster.core, cluster.max_hz) == ((0, 1), "Some CPU", 4.9e9)
    assert host.facts(machine.root)["virtualisation"] == "hypervisor"


def test_a_machine_that_tells_nothing(machine, monkeypatch):
    monkeypatch.setenv("PATH", "")
    facts = host.facts(machine.root)
    for name in (
        "board",
        "cpu",
        "huge_pages",
        "kernel",
        "os",
        "temperatures",
        "throttled_now",
        "virtualisation",
    ):
        assert facts[name] is None
    assert facts["clusters"] == []
    assert set(facts["memory"].values()) == {None}
    change = Disturbance.between(Snapshot.take(machine.root), Snapshot.take(machine.root))
    assert (change.steal_s, change.cpu_pressure_s, change.load_1min) == (None, None, None)
    assert (change.throttled, change.frequency_change) == (None, None)
    assert change.switches is not None


def test_facts_of_this_machine_are_json():
    facts = host.facts()
    assert json.loads(json.dumps(facts))["page_bytes"] == os.sysconf("SC_PAGE_SIZE")
    assert sum(len(cluster["cpus"]) for cluster in facts["clusters"]) == os.cpu_count()
    assert facts["memory"]["total_bytes"] > facts["memory"]["available_bytes"] > 0
    assert facts["blas"]


def test_a_vcgencmd_that_fails_is_not_a_fact(pi, monkeypatch):
    vcgencmd(pi, monkeypatch, 0)
    pi.write("bin/vcgencmd", "#!/bin/sh\necho 'VCHI initialization failed'\nexit 255\n")
    assert host.facts(pi.root)["throttled_now"] is None


def disturb(machine, *, steal, waited_us, load):
    machine.write("proc/stat", f"cpu  10 0 20 300 4 0 1 {steal} 0 0\ncpu0 1 0 2 30 4 0 1 0 0 0\n")
    for what, share in (("cpu", 1), ("io", 2), ("memory", 3)):
        machine.write(
            f"proc/pressure/{what}",
            f"some avg10=0.00 avg60=0.00 avg300=0.00 total={waited_us * share}\n"
            "full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n",
        )
    machine.write("proc/loadavg", f"{load} 0.50 0.25 1/123 4567\n")


def test_counters_are_differences(pi, monkeypatch):
    disturb(pi, steal=100, waited_us=1_000_000, load=0.5)
    vcgencmd(pi, monkeypatch, 0x80000)
    before = Snapshot.take(pi.root)
    disturb(pi, steal=100 + 2 * os.sysconf("SC_CLK_TCK"), waited_us=1_500_000, load=1.25)
    vcgencmd(pi, monkeypatch, 0xA0001)
    pi.cpu(0, lowest_khz=600000, highest_khz=1800000, now_khz=1200000, governor="ondemand")
    change = Disturbance.between(before, Snapshot.take(pi.root))
    assert change.elapsed_s > 0
    assert change.thread_cpu_s > 0
    assert change.switches >= 0
    assert change.steal_s == pytest.approx(2)
    assert change.cpu_pressure_s == pytest.approx(0.5)
    assert change.io_pressure_s == pytest.approx(1.0)
    assert change.memory_pressure_s == pytest.approx(1.5)
    assert change.load_1min == 1.25
    # Now: under-voltage. Since the first snapshot: frequency capped. The temperature limit was long ago.
    assert change.throttled == ("under-voltage", "frequency capped")
    assert change.frequency_change == pytest.approx(1.0)


def test_counters_of_different_threads_are_not_compared():
    before = Snapshot.take()
    later = []
    thread = threading.Thread(target=lambda: later.append(Snapshot.take()))
    thread.start()
    thread.join()
    change = Disturbance.between(before, later[0])
    assert (change.switches, change.thread_cpu_s) == (None, None)
    assert change.elapsed_s > 0


def in_a_thread(call):
    """The call's result or exception; a thread's place ends with it."""
    outcome = []

    def run():
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


def test_pinning_binds_the_calling_thread_only():
    before = os.sched_getaffinity(0)
    cpu = max(before)

    def call():
        host.pin([cpu])
        return os.sched_getaffinity(0)

    assert in_a_thread(call) == {cpu}
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("extra", [[], [0]])
def test_processors_that_are_not_there(extra):
    def call():
        before = os.sched_getaffinity(0)
        try:
            host.pin([*extra, 1000])
        finally:
            assert os.sched_getaffinity(0) == before

    error = in_a_thread(call)
    assert isinstance(error, HostError)
    assert "1000" in str(error)


def test_priority_is_of_the_calling_thread_only():
    before = os.getpriority(os.PRIO_PROCESS, 0)

    def call():
        host.raise_priority(19)
        return os.getpriority(os.PRIO_PROCESS, 0)

    assert in_a_thread(call) == 19
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_a_nice_value_that_does_not_exist():
    with pytest.raises(HostError, match="-20 to 19, seen -21"):
        host.raise_priority(-21)


def test_a_priority_that_is_not_permitted(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    with pytest.raises(HostError, match="root"):
        host.raise_priority(-5)


def test_a_virtual_machine_may_give_its_free_pages_back(tmp_path: Path) -> None:
    assert not host.gives_free_pages_back(tmp_path)
    parameters = tmp_path / "sys/module/page_reporting/parameters"
    parameters.mkdir(parents=True)
    (parameters / "page_reporting_order").write_text("9")
    assert not host.gives_free_pages_back(tmp_path), "a real machine has the module, but nobody to report to"
    (tmp_path / "sys/bus/virtio/devices/virtio0").mkdir(parents=True)
    assert host.gives_free_pages_back(tmp_path)
