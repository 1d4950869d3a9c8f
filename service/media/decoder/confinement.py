"""What a decoder child may ask of the kernel once it has started: next to nothing.

The child imports all it needs, then gives up every way to open files, sockets and processes: a file
of a client that takes it over reaches only the memory of the child and its one socket.
See seccomp(2), capset(2), prctl(2); numbers of system calls: asm/unistd_64.h, asm-generic/unistd.h.
"""

import ctypes
import errno
import os
import platform
import signal
import struct
import sys
from dataclasses import dataclass

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME = 1, 4, 15
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
_CAPABILITY_VERSION_3 = 0x20080522
_FIONBIO, _CLONE_THREAD = 0x5421, 0x10000
_ALLOW, _KILL, _FAIL_WITH = 0x7FFF0000, 0x80000000, 0x00050000
# Classic BPF: load a word of `struct seccomp_data`, jump if equal, jump if a bit is set, return.
_LOAD, _IF_EQUAL, _IF_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENTS = 0, 4, 16


@dataclass(frozen=True)
class _Machine:
    """The numbers of one architecture; `audit` is its AUDIT_ARCH_* of linux/audit.h."""

    audit: int
    allowed: dict[str, int]


_MACHINES = {
    "x86_64": _Machine(
        0xC000003E,
        {
            "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9,
            "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14,
            "rt_sigreturn": 15, "ioctl": 16, "pread64": 17, "readv": 19, "writev": 20,
            "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39,
            "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "getsockname": 51,
            "setsockopt": 54, "getsockopt": 55, "clone": 56, "exit": 60, "fcntl": 72,
            "ftruncate": 77, "getrusage": 98, "sigaltstack": 131, "prctl": 157, "gettid": 186,
            "futex": 202, "sched_setaffinity": 203, "sched_getaffinity": 204,
            "restart_syscall": 219, "clock_gettime": 228, "clock_nanosleep": 230,
            "exit_group": 231, "tgkill": 234, "set_robust_list": 273, "ppoll": 271,
            "prlimit64": 302, "getcpu": 309, "getrandom": 318, "memfd_create": 319, "rseq": 334,
            "clone3": 435,
        },
    ),
    "aarch64": _Machine(
        0xC00000B7,
        {
            "fcntl": 25, "ioctl": 29, "ftruncate": 46, "close": 57, "lseek": 62, "read": 63,
            "write": 64, "readv": 65, "writev": 66, "pread64": 67, "ppoll": 73, "fstat": 80,
            "exit": 93, "exit_group": 94, "futex": 98, "set_robust_list": 99, "nanosleep": 101,
            "clock_gettime": 113, "clock_nanosleep": 115, "sched_setaffinity": 122,
            "sched_getaffinity": 123, "sched_yield": 124, "restart_syscall": 128, "tgkill": 131,
            "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139,
            "getrusage": 165, "prctl": 167, "getcpu": 168, "getpid": 172, "gettid": 178,
            "getsockname": 204, "sendto": 206, "recvfrom": 207, "setsockopt": 208,
            "getsockopt": 209, "sendmsg": 211, "recvmsg": 212, "brk": 214, "munmap": 215,
            "mremap": 216, "clone": 220, "mmap": 222, "mprotect": 226, "madvise": 233,
            "prlimit64": 261, "getrandom": 278, "memfd_create": 279, "rseq": 293, "clone3": 435,
        },
    ),
}  # fmt: skip


def hide_memory() -> None:
    """Keep this process's memory and environment from others of the same user, and no core dump."""
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent(parent_pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent_pid:  # it ended before the call above
        sys.exit(1)


def confine() -> bool:
    """Give up all rights of this process but those on its memory and its open files.

    To be called before a second thread starts. Return False where the architecture's system calls
    are not known or the kernel has no filters: then only privileges are gone.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    drop_capabilities()
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    program = b"".join(_make_filter(machine, os.getpid()))
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HP", len(program) // 8, ctypes.addressof(code))
    held = ctypes.create_string_buffer(header)
    try:
        _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(held))
    except OSError:
        return False
    return True


def drop_capabilities() -> None:
    """Give up the privileges of root: it may then not even look at processes of its own user."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    if _libc().capset(header, bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _make_filter(machine: _Machine, pid: int) -> list[bytes]:
    """Return the BPF program: what is not allowed fails with EPERM."""
    # System call: which argument must be what; others of their kind reach other processes.
    conditions = {
        "ioctl": (1, _IF_EQUAL, _FIONBIO),
        "prctl": (0, _IF_EQUAL, _PR_SET_NAME),
        "prlimit64": (0, _IF_EQUAL, 0),
        "tgkill": (0, _IF_EQUAL, pid),
        "clone": (0, _IF_SET, _CLONE_THREAD),
    }
    program = [
        _step(_LOAD, _AT_ARCHITECTURE),
        _step(_IF_EQUAL, machine.audit, skip_then=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _AT_NUMBER),
        _step(_IF_EQUAL, machine.allowed["clone3"], skip_else=1),
        # Its flags lie in memory that a filter cannot read; the C library then takes `clone`.
        _step(_RETURN, _FAIL_WITH | errno.ENOSYS),
    ]
    for name, number in machine.allowed.items():
        if name == "clone3":
            continue
        if name not in conditions:
            program += [_step(_IF_EQUAL, number, skip_else=1), _step(_RETURN, _ALLOW)]
            continue
        argument, test, value = conditions[name]
        program += [
            _step(_IF_EQUAL, number, skip_else=4),
            _step(_LOAD, _AT_ARGUMENTS + 8 * argument),
            _step(test, value, skip_else=1),
            _step(_RETURN, _ALLOW),
            _step(_RETURN, _FAIL_WITH | errno.EPERM),
        ]
    return [*program, _step(_RETURN, _FAIL_WITH | errno.EPERM)]


def _step(code: int, value: int, *, skip_then: int = 0, skip_else: int = 0) -> bytes:
    return struct.pack("HBBI", code, skip_then, skip_else, value)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *values: int) -> None:
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)][:4]
    if _libc().prctl(option, *arguments) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
