"""Memory limits: really enforced where this machine permits, and version 2's rules on an imitated kernel."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgesched.bridge.machine import cgroup
from edgesched.bridge.machine.cgroup import MemoryGroup, Unavailable

MIB = 1024**2


# ---- the real kernel


@pytest.fixture
def permitted():
    try:
        MemoryGroup.create(64 * MIB).close()
    except Unavailable as reason:
        pytest.skip(f"no memory limits here: {reason}")
    yield
    assert list(Path("/sys/fs/cgroup").rglob(f"edgesched-{os.getpid()}-*")) == []


def start(code):
    """A Python process that waits for a line before it runs ``code``."""
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.stdin.readline()\n{code}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def proceed(child):
    child.stdin.write("\n")


def answer(child):
    return child.stdout.readline().strip()


def test_too_much_memory_is_killed_and_counted(permitted):
    with MemoryGroup.create(128 * MIB) as group:
        child = start("data = bytearray(300 << 20)\nprint('survived')")
        group.add(child.pid)
        out, _ = child.communicate("\n")
        assert child.returncode == -signal.SIGKILL
        assert out == ""
        assert group.oom_kills() == 1
        peak = group.peak_bytes()
        assert peak is None or 120 * MIB < peak <= 128 * MIB


def test_what_fits_survives(permitted):
    with MemoryGroup.create(256 * MIB) as group:
        child = start("data = bytearray(100 << 20)\nprint('survived')")
        group.add(child.pid)
        out, _ = child.communicate("\n")
        assert out == "survived\n"
        assert group.oom_kills() == 0


def test_usage_follows_a_region(permitted):
    code = """if True:
        from edgesched.bridge.machine.memory import Region
        region = Region(64 << 20)
        def step(text=""):
            print(text, flush=True)
            sys.stdin.readline()
        step()
        memory = region.view(0, 40 << 20)
        memory[:] = bytes(1 << 20) * 40
        del memory
        from edgesched.bridge.machine.memory import return_free_memory
        return_free_memory()
        step()
        region.release(10 << 20, 30 << 20)
        step()
    """
    with MemoryGroup.create(512 * MIB) as group:
        child = start(code)
        group.add(child.pid)
        used = []
        for _ in range(3):
            proceed(child)
            answer(child)
            used.append(group.usage_bytes())
        child.communicate("\n")
    assert used[1] - used[0] == pytest.approx(40 * MIB, abs=MIB)
    assert used[2] - used[0] == pytest.approx(10 * MIB, abs=MIB)


def test_the_peak_can_start_anew(permitted):
    code = "data = bytearray(80 << 20)\ndel data\nprint('freed')\nsys.stdin.readline()"
    with MemoryGroup.create(256 * MIB) as group:
        child = start(code)
        group.add(child.pid)
        proceed(child)
        assert answer(child) == "freed"
        peak = group.peak_bytes()
        if peak is not None:
            assert peak > 80 * MIB
        if group.reset_peak():
            assert group.peak_bytes() < 40 * MIB
        child.communicate("\n")


def test_an_exception_inside_leaves_nothing_and_kills_what_runs(permitted):
    child = start("")

    def fail_inside(group):
        with group:
            group.add(child.pid)
            raise KeyError

    group = MemoryGroup.create(64 * MIB)
    with pytest.raises(KeyError):
        fail_inside(group)
    assert child.wait(timeout=60) == -signal.SIGKILL
    assert group.name.startswith(f"edgesched-{os.getpid()}-")
    group.close()


def test_closing_from_inside_moves_us_out(permitted):
    code = """if True:
        import os
        from edgesched.bridge.machine.cgroup import MemoryGroup
        before = open("/proc/self/cgroup").read()
        with MemoryGroup.create(256 << 20) as group:
            group.add(os.getpid())
            assert open("/proc/self/cgroup").read() != before
        assert open("/proc/self/cgroup").read() == before
        print("outside")
    """
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "outside\n"


def test_groups_of_dead_makers_are_swept(permitted):
    code = """if True:
        import os
        from edgesched.bridge.machine.cgroup import MemoryGroup
        print(MemoryGroup.create(64 << 20).name, flush=True)
        os.kill(os.getpid(), 9)
    """
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    with MemoryGroup.create(64 * MIB) as group:
        removed = cgroup.sweep_stale()
        assert name in removed
        assert group.name not in removed
        group.usage_bytes()


def test_moving_a_process_that_is_not_there(permitted):
    with MemoryGroup.create(64 * MIB) as group, pytest.raises(Unavailable, match="No such process"):
        group.add(2**22 + 1)


def test_a_failing_create_leaves_nothing(permitted, monkeypatch):
    def refuse(file, text):
        raise Unavailable(f"{file}: refused")

    monkeypatch.setattr(cgroup, "_write", refuse)
    with pytest.raises(Unavailable, match=r"edgesched-\d+-.*refused"):
        MemoryGroup.create(64 * MIB)


# ---- what is asked for


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit_bytes": 0},
        {"limit_bytes": 1, "swappiness": 101},
    ],
)
def test_limits_that_make_no_sense(arguments):
    with pytest.raises(Unavailable, match="seen"):
        MemoryGroup.create(**arguments)


# ---- an imitated kernel


class Kernel:
    """Folders in ``root`` that behave as control groups: files appear and vanish with the folder."""

    MEMORY_FILES = ("memory.max", "memory.current", "memory.events", "memory.peak", "memory.swap.max")

    def __init__(self, root, monkeypatch):
        self.root = root
        self.top = root / "sys/fs/cgroup"
        self.forbidden = set()
        self._mkdir, self._rmdir, self._write_text = os.mkdir, os.rmdir, Path.write_text
        monkeypatch.setattr(os, "mkdir", self.mkdir)
        monkeypatch.setattr(os, "rmdir", self.rmdir)
        monkeypatch.setattr(Path, "write_text", lambda path, text: self.write(path, text))

    def boot(self, own, mounts, controllers="cpu io memory pids"):
        self.top.mkdir(parents=True)
        (self.root / "proc/self").mkdir(parents=True)
        (self.root / "proc/self/cgroup").write_text(own)
        (self.root / "proc/self/mountinfo").write_text(mounts)
        (self.root / "proc/swaps").write_text("Filename Type Size Used Priority\n")
        self.files(self.top, controllers)

    def files(self, folder, controllers):
        (folder / "cgroup.controllers").write_text(controllers)
        for name in ("cgroup.procs", "cgroup.subtree_control"):
            (folder / name).write_text("")
        if "memory" in controllers and folder != self.top:
            for name in self.MEMORY_FILES:
                (folder / name).write_text("max" if name.endswith("max") else "0")
            (folder / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")

    def group(self, path, subtree="", procs=""):
        folder = self.top / path
        folder.mkdir()
        self.set(folder, "cgroup.subtree_control", subtree)
        self.set(folder, "cgroup.procs", procs)
        return folder

    def set(self, folder, name, text):
        self._write_text(folder / name, text)

    def is_group(self, path):
        return self.top in Path(path).parents

    def mkdir(self, path, *args, **kwargs):
        if Path(path).parent in self.forbidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        self._mkdir(path, *args, **kwargs)
        if self.is_group(path):
            self.files(Path(path), (Path(path).parent / "cgroup.subtree_control").read_text())

    def rmdir(self, path, *args, **kwargs):
        if self.is_group(path):
            for file in Path(path).iterdir():
                file.unlink()
        self._rmdir(path, *args, **kwargs)

    def write(self, path, text):
        if path.name == "cgroup.subtree_control" and text.startswith("+"):
            if path.parent in self.forbidden:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            if path.parent != self.top and (path.parent / "cgroup.procs").read_text():
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            text = f"{path.read_text()} {text[1:]}"
        return self._write_text(path, text)


V2_MOUNT = (
    "24 1 0:22 / /sys rw - sysfs sysfs rw\n35 24 0:30 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n"
)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    return Kernel(tmp_path, monkeypatch)


@pytest.fixture
def pi(kernel):
    """An ssh session on Raspberry Pi OS with the memory controller on."""
    kernel.boot("0::/user.slice/session-3.scope\n", V2_MOUNT)
    kernel.set(kernel.top, "cgroup.subtree_control", "cpu memory pids")
    kernel.group("user.slice", subtree="cpu memory pids")
    kernel.group("user.slice/session-3.scope", procs="812\n")
    return kernel


def only(folder):
    (found,) = folder.glob("edgesched-*")
    return found


def test_version_2_makes_a_sibling_because_our_own_group_has_processes(pi):
    with MemoryGroup.create(100_000_000, root=pi.root) as group:
        folder = only(pi.top / "user.slice")
        assert folder.name == group.name
        assert (folder / "memory.max").read_text() == "100000000"
        assert (folder / "memory.swap.max").read_text() == "0"
        group.add(4711)
        assert (folder / "cgroup.procs").read_text() == "4711"
        pi.set(folder, "cgroup.procs", "")
        pi.set(folder, "memory.current", "12345\n")
        pi.set(folder, "memory.peak", "23456\n")
        assert (group.usage_bytes(), group.peak_bytes(), group.oom_kills()) == (12345, 23456, 2)
    assert not folder.exists()


def test_swapping_may_be_allowed(pi):
    with MemoryGroup.create(1, swappiness=60, root=pi.root):
        assert (only(pi.top / "user.slice") / "memory.swap.max").read_text() == "max"


def test_a_peak_that_this_kernel_does_not_know(pi):
    with MemoryGroup.create(1, root=pi.root) as group:
        (only(pi.top / "user.slice") / "memory.peak").unlink()
        assert group.peak_bytes() is None
        assert group.reset_peak() is False


def test_a_controller_that_is_not_handed_down_yet_is_asked_for(pi):
    pi.set(pi.top / "user.slice", "cgroup.subtree_control", "cpu pids")
    with MemoryGroup.create(1, root=pi.root):
        assert (only(pi.top / "user.slice") / "memory.max").read_text() == "1"


def test_the_next_ancestor_is_tried(pi):
    pi.forbidden.add(pi.top / "user.slice")
    with MemoryGroup.create(1, root=pi.root):
        assert (only(pi.top) / "memory.max").read_text() == "1"


def test_our_own_group_may_be_the_top(kernel):
    kernel.boot("0::/\n", V2_MOUNT)
    kernel.set(kernel.top, "cgroup.procs", "1\n812\n")
    with MemoryGroup.create(1, root=kernel.root):
        assert (only(kernel.top) / "memory.max").read_text() == "1"


def test_without_permission_the_ways_out_are_named(pi):
    pi.forbidden |= {pi.top, pi.top / "user.slice", pi.top / "user.slice/session-3.scope"}
    with pytest.raises(Unavailable, match=r"root.*systemd-run --user --scope.*Permission denied"):
        MemoryGroup.create(1, root=pi.root)


def test_a_controller_that_is_off_names_the_boot_option(kernel):
    kernel.boot("0::/\n", V2_MOUNT, controllers="cpuset cpu io pids")
    with pytest.raises(Unavailable, match=r"cgroup_enable=memory.*/boot/firmware/cmdline\.txt"):
        MemoryGroup.create(1, root=kernel.root)


def test_a_system_without_control_groups(kernel):
    kernel.boot("", "24 1 0:22 / /sys rw - sysfs sysfs rw\n")
    with pytest.raises(Unavailable, match="no control groups are mounted"):
        MemoryGroup.create(1, root=kernel.root)


def test_a_container_sees_its_part_of_the_tree(kernel):
    kernel.boot("0::/docker/abc/work\n", V2_MOUNT.replace("0:30 / /sys", "0:30 /docker/abc /sys"))
    kernel.set(kernel.top, "cgroup.subtree_control", "memory")
    kernel.group("work", procs="7\n")
    with MemoryGroup.create(1, root=kernel.root):
        assert only(kernel.top)


def test_swap_that_cannot_be_forbidden(pi, monkeypatch):
    monkeypatch.setattr(Kernel, "MEMORY_FILES", ("memory.max", "memory.current"))
    with MemoryGroup.create(1, root=pi.root):
        pass
    (pi.root / "proc/swaps").write_text("Filename Type Size Used Priority\n/var/swap file 102396 0 -2\n")
    with pytest.raises(Unavailable, match="swapoff -a"):
        MemoryGroup.create(1, root=pi.root)
    assert not list(pi.top.rglob("edgesched-*"))


def test_sweeping_goes_by_name_and_pid(pi):
    (pi.root / "proc/77").mkdir()
    parent = pi.top / "user.slice"
    for name in ("edgesched-76-0a1b2c3d", "edgesched-77-0a1b2c3d", "edgesched-76-mine", "other"):
        (parent / name).mkdir()
    assert cgroup.sweep_stale(pi.root) == ["edgesched-76-0a1b2c3d"]
    assert not (parent / "edgesched-76-0a1b2c3d").exists()
    assert (parent / "edgesched-77-0a1b2c3d").exists()
    assert (parent / "edgesched-76-mine").exists()
