"""What the process that reads a foreign image gives up before it reads: rights, network, programs, memory, time."""

import ctypes
import os
import platform
import resource
import signal
import struct

_NOBODY = 65534
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_CLONE_NEWNET = 0x40000000
_MEMORY = 2 << 30
_ERRNO_EPERM, _ALLOW = 0x00050001, 0x7FFF0000
# By architecture: its number in seccomp's data, and the calls that are refused: sockets (socket, socketpair, connect,
# bind), programs (execve, execveat), other processes (ptrace, process_vm_readv and _writev), mounts and namespaces
# (mount, unshare, setns), and io_uring, which makes sockets by another way.
_REFUSED = {
    "x86_64": (0xC000003E, (41, 53, 42, 49, 59, 322, 101, 310, 311, 165, 272, 308, 425)),
    "aarch64": (0xC00000B7, (198, 199, 203, 200, 221, 281, 117, 270, 271, 40, 97, 268, 425)),
}


def enter(image_bytes: int, parent: int) -> None:
    """Give it all up. As root it becomes nobody, in a network namespace of its own; seccomp, where the kernel has it,
    refuses sockets and programs to either. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _called(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    for what, most in (
        (resource.RLIMIT_FSIZE, image_bytes),
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, 120 + image_bytes // (16 << 20)),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(what, (most, most))
    if os.geteuid() == 0:
        # Without the right to make a namespace (a container) seccomp alone refuses the network.
        libc.unshare(_CLONE_NEWNET)
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    # After the change of user, which takes it back.
    _called(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "pdeathsig")
    if os.getppid() != parent:
        os._exit(1)
    os.umask(0o022)
    _filter(libc)


def _filter(libc: ctypes.CDLL) -> None:
    """Classic BPF over seccomp's data: the call's number at 0, the architecture at 4."""
    known = _REFUSED.get(platform.machine())
    if known is None:
        return
    architecture, calls = known
    many = len(calls)  # jumps count from the instruction after them; the last instruction refuses
    program = [
        (0x20, 0, 0, 4),
        (0x15, 0, many + 3, architecture),
        (0x20, 0, 0, 0),
        (0x35, many + 1, 0, 0x40000000),  # x32's numbers for the same calls
        *((0x15, many - index, 0, number) for index, number in enumerate(calls)),
        (0x06, 0, 0, _ALLOW),
        (0x06, 0, 0, _ERRNO_EPERM),
    ]
    code = b"".join(struct.pack("HBBI", *each) for each in program)
    instructions = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]

    prepared = Program(len(program), ctypes.cast(instructions, ctypes.c_void_p).value)
    # A kernel without seccomp says EINVAL: then the other walls stand alone.
    libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(prepared), 0, 0)


def _called(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), what)
