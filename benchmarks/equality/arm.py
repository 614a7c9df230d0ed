"""A 64-bit Arm system to run under an emulator: `python -m benchmarks.equality.arm` (or `make arm`) sets it up.

It needs apt and dpkg, that is Debian or Ubuntu, and brings, all below `.cache/arm`:

- Python 3.11 and the C library from Debian's arm64 packages, unpacked and not installed;
- the aarch64 wheels of the base install, at the versions of `constraints.txt`;
- the libraries of ExecuTorch's aarch64 wheel, and `native/worker.cpp` compiled against them. ExecuTorch's Python module
  needs torch, whose aarch64 wheel is built for CUDA; its C++ runtime needs nothing.

The emulator and the cross compiler are installed with apt where they are absent, which needs root. Emulated programs
see a `/proc/cpuinfo` and a `/sys/devices/system/cpu` of the emulated processor: runtimes choose their kernels by them,
and the host's would tell of an x86.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from edge_stscq._files import write_file
from edge_stscq.errors import EdgeError

ROOT = Path(__file__).resolve().parents[2]
EMULATOR = "qemu-aarch64-static"
COMPILER = "aarch64-linux-gnu-g++"
PACKAGES = {EMULATOR: "qemu-user-static", COMPILER: "g++-aarch64-linux-gnu"}
"""Debian packages that hold the programs."""
PARTS = {"cortex-a72": "0xd08", "cortex-a76": "0xd0b", "neoverse-n1": "0xd0c"}
"""Arm's number of each processor."""
SUITE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SYSTEM = ("python3.11", "libstdc++6", "libgomp1")
_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_26", "manylinux_2_17", "manylinux2014")
_FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_ARMV82 = "atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
_LIBRARIES = ("backend_xnnpack", "kernels_optimized", "threadpool")


class Arm:
    """The system below a cache folder.

    Args:
        cache: usually `.cache` of the repository.
    """

    def __init__(self, cache: Path) -> None:
        self.folder = (cache / "arm").resolve()
        self.system = self.folder / "system"
        self.site = self.folder / "site"
        self.executorch = self.folder / "executorch"
        self.runner = self.folder / "worker"

    @property
    def python(self) -> Path:
        """The emulated interpreter."""
        return self.system / "usr" / "bin" / "python3.11"

    def root(self, core: str) -> Path:
        """Root file system, `/`, of an emulated processor."""
        return self.folder / core

    def check(self) -> None:
        """Look whether all of it is there.

        Raises:
            EdgeError: it is not, or not whole.
        """
        if not (self.folder / "ready").is_file() or shutil.which(EMULATOR) is None:
            raise EdgeError("the Arm emulator is not set up; run: make arm")

    def set_up(self) -> None:
        """Bring whatever is not there yet.

        Raises:
            EdgeError: apt is not on this machine, or a step failed; what was brought before stays.
        """
        ready, wanted = self.folder / "ready", self._versions()
        if shutil.which(EMULATOR) and shutil.which(COMPILER) and ready.is_file() and ready.read_text() == wanted:
            return
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise EdgeError("the Arm emulator needs apt and dpkg; run it on Debian or Ubuntu, or in their container")
        ready.unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._tools()
        steps = {"aarch64 wheels": self._install_wheels, "ExecuTorch's worker": self._compile}
        if not self.python.exists():
            steps = {"Debian's arm64 Python": self._unpack_system, **steps}
        for title, step in steps.items():
            print(f"arm: {title}", file=sys.stderr, flush=True)
            step()
        for core in PARTS:
            self._describe(core)
        write_file(ready, wanted.encode())

    def _versions(self) -> str:
        return (ROOT / "constraints.txt").read_text() + Path(__file__).read_text() + _source().read_text()

    def _tools(self) -> None:
        missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
        if not missing:
            return
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
        if os.geteuid() != 0:
            raise EdgeError(f"needs {', '.join(missing)}; run: sudo {' '.join(command)}")
        _run(["apt-get", "--quiet", "update"])
        _run(command)

    def _unpack_system(self) -> None:
        """Let apt find and fetch the packages for another architecture, without telling the machine's own apt."""
        apt = self.folder / "apt"
        for name in ("state/lists/partial", "cache/archives/partial"):
            (apt / name).mkdir(parents=True, exist_ok=True)
        (apt / "status").write_text("")
        signed = f"[signed-by={KEYRING}]" if Path(KEYRING).is_file() else ""
        (apt / "sources.list").write_text(f"deb {signed} http://deb.debian.org/debian {SUITE} main\n")
        options = {
            "Dir::State": apt / "state", "Dir::State::status": apt / "status", "Dir::Cache": apt / "cache",
            "Dir::Etc::sourcelist": apt / "sources.list", "Dir::Etc::sourceparts": "-", "APT::Architecture": "arm64",
            "APT::Architectures": "arm64", "APT::Sandbox::User": "root", "APT::Keep-Downloaded-Packages": "true",
        }  # fmt: skip
        get = ["apt-get", "--quiet=2", *(word for pair in options.items() for word in ("-o", f"{pair[0]}={pair[1]}"))]
        _run([*get, "update"])
        _run([*get, "install", "--yes", "--download-only", "--no-install-recommends", *_SYSTEM])
        fresh = self.folder / "unpacking"
        shutil.rmtree(fresh, ignore_errors=True)
        for package in sorted((apt / "cache" / "archives").glob("*.deb")):
            _run(["dpkg", "--extract", str(package), str(fresh)])
        fresh.rename(self.system)
        shutil.rmtree(apt)

    def _install_wheels(self) -> None:
        base = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        self._pip(self.site, *base)
        self._pip(self.executorch, "--no-deps", "executorch")

    def _pip(self, target: Path, *words: str) -> None:
        shutil.rmtree(target, ignore_errors=True)
        platforms = [word for name in _PLATFORMS for word in ("--platform", f"{name}_aarch64")]
        _run([
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
            "--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp", *platforms,
            "--constraint", str(ROOT / "constraints.txt"), "--target", str(target), *words,
        ])  # fmt: skip

    def _compile(self) -> None:
        wheel = self.executorch / "executorch"
        version = next(self.executorch.glob("executorch-*.dist-info")).name.split("-")[1].removesuffix(".dist")
        include, library = wheel / "include", wheel / "lib"
        _run([
            COMPILER, "-std=c++17", "-O2", "-DC10_USING_CUSTOM_GENERATED_MACROS", f'-DEXECUTORCH_VERSION="{version}"',
            f"-I{include}", f"-I{include}/executorch/runtime/core/portable_type/c10", str(_source()),
            "-o", str(self.runner), f"-L{library}", "-Wl,--no-as-needed",
            *(f"-lexecutorch_{name}" for name in _LIBRARIES), "-lexecutorch",
            f"-Wl,-rpath,{library}", f"-Wl,-rpath-link,{library}",
        ])  # fmt: skip

    def _describe(self, core: str) -> None:
        """Make the root of one processor: links to the system, and files that tell what it is."""
        root, cpus = self.root(core), self.root(core) / "sys" / "devices" / "system" / "cpu"
        cpus.mkdir(parents=True, exist_ok=True)
        (root / "proc").mkdir(exist_ok=True)
        for part in self.system.iterdir():
            link = root / part.name
            link.unlink(missing_ok=True)
            link.symlink_to(part)
        features = _FEATURES if core == "cortex-a72" else f"{_FEATURES} {_ARMV82}"
        lines = {
            "processor": "0", "BogoMIPS": "100.00", "Features": features, "CPU implementer": "0x41",
            "CPU architecture": "8", "CPU variant": "0x0", "CPU part": PARTS[core], "CPU revision": "3",
        }  # fmt: skip
        text = "".join(f"{name}\t: {value}\n" for name, value in lines.items())
        (root / "proc" / "cpuinfo").write_text(text + "\n")
        for name in ("possible", "present", "online"):
            (cpus / name).write_text("0\n")


def _source() -> Path:
    return Path(__file__).parent / "native" / "worker.cpp"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise EdgeError(f"{command[0]} failed: {' / '.join(said)}")


if __name__ == "__main__":
    try:
        Arm(ROOT / ".cache").set_up()
    except EdgeError as error:
        sys.exit(f"error: {error}")
