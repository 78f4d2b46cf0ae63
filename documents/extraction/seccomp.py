"""A system call filter in classic BPF, built and installed without a library. Knows what a parser needs, and no parser."""

import ctypes
import os
import platform
import struct
from dataclasses import dataclass

PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
PROT_EXEC = 4

# seccomp(2): what the filter answers.
ALLOW, KILL_PROCESS, ERRNO_EPERM = 0x7FFF0000, 0x80000000, 0x00050001
# linux/bpf_common.h: BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, …JGE, …JSET, BPF_RET|BPF_K
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# struct seccomp_data: number at 0, architecture at 4, arguments from 16, eight bytes each (the low word first).
NUMBER, ARCHITECTURE, THIRD_ARGUMENT = 0, 4, 16 + 2 * 8
X32_BIT = 0x40000000  # the x32 ABI has numbers of its own, which the list would not match


class SeccompUnavailable(Exception):
    """No filter can be installed here: a fault of the installation, not of a file."""


@dataclass(frozen=True)
class Calls:
    """The numbers of one architecture: what computing needs, what maps memory, and what no parser ever asks for."""

    audit: int
    allowed: tuple[int, ...]
    mappings: tuple[int, ...]
    hostile: tuple[int, ...]


# allowed: read write close fstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn pread64 readv
#   writev sched_yield mremap madvise nanosleep getpid exit exit_group gettimeofday getrusage times sigaltstack gettid futex
#   clock_gettime clock_getres clock_nanosleep restart_syscall getrandom rseq set_robust_list membarrier
#   sched_getaffinity sysinfo
# hostile: socket connect sendto sendmsg bind listen socketpair fork vfork execve kill ptrace mount unshare setns bpf
#   process_vm_readv process_vm_writev execveat io_uring_setup pidfd_send_signal (fork and vfork do not exist on aarch64)
# Everything else (open, stat, ioctl, clone…) answers EPERM, since libraries try those and cope.
CALLS = {
    "x86_64": Calls(  # asm/unistd_64.h
        audit=0xC000003E,
        allowed=(
            *(0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 20, 24, 25, 28, 35, 39, 60, 231, 96, 98, 100, 131, 186),
            *(202, 228, 229, 230, 219, 318, 334, 273, 324, 204, 99),
        ),
        mappings=(9, 10),
        hostile=(41, 42, 44, 46, 49, 50, 53, 57, 58, 59, 62, 101, 165, 272, 308, 321, 310, 311, 322, 425, 424),
    ),
    "aarch64": Calls(  # asm-generic/unistd.h
        audit=0xC00000B7,
        allowed=(
            *(63, 64, 57, 80, 73, 62, 222, 226, 215, 214, 134, 135, 139, 67, 65, 66, 124, 216, 233, 101, 172, 93, 94, 169),
            *(165, 153, 132, 178, 98, 113, 114, 115, 128, 278, 293, 99, 283, 123, 179),
        ),
        mappings=(222, 226),
        hostile=(198, 203, 206, 211, 200, 201, 199, 221, 129, 117, 40, 97, 268, 280, 270, 271, 281, 425, 424),
    ),
}


def program(machine: str | None = None) -> bytes:
    """The filter for this machine: allow the list, refuse executable mappings, kill for the hostile, EPERM for the rest."""
    try:
        calls = CALLS[machine or platform.machine()]
    except KeyError:
        raise SeccompUnavailable(f"no system call list for {machine or platform.machine()}") from None
    code = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, calls.audit),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER),
    ]
    if calls is CALLS["x86_64"]:
        code += [(AT_LEAST, 0, 1, X32_BIT), (RETURN, 0, 0, KILL_PROCESS)]
    for number in calls.mappings:
        code += [
            (EQUAL, 0, 4, number),
            (LOAD, 0, 0, THIRD_ARGUMENT),
            (ANY_BIT, 0, 1, PROT_EXEC),
            (RETURN, 0, 0, ERRNO_EPERM),
            (RETURN, 0, 0, ALLOW),
        ]
    for number in calls.allowed:
        if number not in calls.mappings:
            code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    for number in calls.hostile:
        code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, KILL_PROCESS)]
    code.append((RETURN, 0, 0, ERRNO_EPERM))
    return b"".join(struct.pack("HBBI", *line) for line in code)


class _Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def install(code: bytes) -> None:
    """Bind the filter to this process for good (needs no_new_privs). Raises SeccompUnavailable when the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = _Filter(len(code) // 8, code)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(handle), 0, 0):
        raise SeccompUnavailable(f"the kernel refused the filter: {os.strerror(ctypes.get_errno())}")
