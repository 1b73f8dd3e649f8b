"""What the machine must have: Linux, two CPUs, enough open files, a C compiler."""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".cache/benchmarks"
SPARE_FILES = 150
"""Open files of a server beside its connections."""


class MachineError(Exception):
    """The machine lacks something; the text says what, and what to do."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to measure with."""

    generator: Path
    features: frozenset[str]
    """What the generator was built with: "tls", "deflate"."""
    server_cpu: int
    generator_cpu: int
    file_limit: int


def prepare() -> Machine:
    """Find out, and build, what measuring needs. Raises `MachineError`."""
    server_cpu, generator_cpu = two_cpus()
    generator, features = build_generator()
    return Machine(generator, features, server_cpu, generator_cpu, raise_file_limit())


def two_cpus() -> tuple[int, int]:
    """Give a CPU for the servers and another for the generator. Raises `MachineError` where there is only one."""
    if not sys.platform.startswith("linux"):
        raise MachineError(f"The benchmarks need Linux (epoll, /proc, CPU affinity); this is {platform.system()}.")
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise MachineError("The benchmarks need two CPUs, one for the server and one for the load; this process may use one only.")
    return cpus[0], cpus[1]


def raise_file_limit() -> int:
    """Allow as many open files as the system lets this user have; give that number."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    return limit


def busy_seconds(cpus: Collection[int]) -> float:
    """Give the CPU time that everything on the machine has spent on these CPUs."""
    ticks = 0
    for line in Path("/proc/stat").read_text(encoding="utf-8").splitlines():
        name, *numbers = line.split()
        if name.removeprefix("cpu").isdigit() and int(name[3:]) in cpus:
            user, nice, system, _idle, _waiting, hard, soft = map(int, numbers[:7])
            ticks += user + nice + system + hard + soft
    return ticks / os.sysconf("SC_CLK_TCK")


def used_seconds(pids: Iterable[int]) -> float:
    """Give the CPU time that these processes have spent."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def pinned_to(cpu: int) -> Generator[None, None, None]:
    """Start processes on one CPU: they inherit this thread's affinity and, where it may be raised, its priority."""
    before = os.sched_getaffinity(0)
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    os.sched_setaffinity(0, {cpu})
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -5)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, nice)


def build_generator() -> tuple[Path, frozenset[str]]:
    """Compile the load generator if need be; give the program and what it was built with: "tls", "deflate".

    Raises `MachineError` without a C compiler, or when it refuses the source.
    """
    compiler = os.environ.get("CC") or next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), "")
    if not compiler:
        raise MachineError(
            "No C compiler was found (cc, gcc or clang on the PATH, or its name in $CC). Only `make bench` needs one, for its load"
            " generator; on Debian and Ubuntu: apt install gcc libc6-dev libssl-dev zlib1g-dev"
        )
    source = Path(__file__).with_name("generator.c")
    error = ""
    for features in (("tls", "deflate"), ("deflate",), ("tls",), ()):  # the headers of OpenSSL and zlib may be missing
        flags = [f"-DWITH_{feature.upper()}" for feature in features]
        libraries = [library for feature in features for library in {"tls": ("-lssl", "-lcrypto"), "deflate": ("-lz",)}[feature]]
        command = [*compiler.split(), "-O2", *flags, str(source), *libraries, "-o"]
        key = hashlib.sha256("\0".join([source.read_text(encoding="utf-8"), *command]).encode()).hexdigest()[:16]
        program = BUILD / f"generator-{key}"
        if not program.exists():
            error = _compile([*command, f"{program}.new"]) or error
            if not Path(f"{program}.new").exists():
                continue
            Path(f"{program}.new").rename(program)
        return program, frozenset(features)
    raise MachineError(f"{compiler} could not compile {source.relative_to(ROOT)}:\n{error}")


def _compile(command: Sequence[str]) -> str:
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as failure:
        return str(failure)
    return done.stderr if done.returncode else ""


def certificate() -> tuple[Path, Path] | None:
    """Give the key and the self-signed certificate of the TLS rows; None without the program openssl."""
    key, signed = BUILD / "key.pem", BUILD / "certificate.pem"
    if not signed.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650", "-subj", "/CN=localhost"]
        try:
            subprocess.run(["openssl", "req", "-x509", *kind, "-keyout", key, "-out", signed], check=True, capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return None
    return key, signed
