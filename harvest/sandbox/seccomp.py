"""Makes the seccomp filter, in BPF, that says which system calls a program in the jail may make.

The list names the allowed calls, because new kernels bring new calls. A program can start threads, but no process and
no other program. It can open no socket, and it can mount, trace or load nothing. The list leaves out calls that use
kernel memory which no limit counts (memfd, SysV, keys, io_uring, large pipes). A denied call fails with EPERM, which
Python turns into an exception. `clone3` fails with ENOSYS, so that the C library falls back to `clone`, whose flags a
filter can see.
"""

import platform
import struct
from typing import NamedTuple

_ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "pwrite64": (18, 68), "preadv": (295, 69), "pwritev": (296, 70), "preadv2": (327, 286), "pwritev2": (328, 287),
    "close": (3, 57), "close_range": (436, 436), "lseek": (8, 62), "open": (2, None), "openat": (257, 56),
    "openat2": (437, 437), "creat": (85, None), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "newfstatat": (262, 79), "statx": (332, 291), "statfs": (137, 43), "fstatfs": (138, 44), "access": (21, None),
    "faccessat": (269, 48), "faccessat2": (439, 439), "readlink": (89, None), "readlinkat": (267, 78),
    "getdents": (78, None), "getdents64": (217, 61), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50),
    "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None), "unlink": (87, None), "unlinkat": (263, 35),
    "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "truncate": (76, 45), "ftruncate": (77, 46),
    "fallocate": (285, 47), "fsync": (74, 82), "fdatasync": (75, 83), "sync_file_range": (277, 84), "flock": (73, 32),
    "umask": (95, 166), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "utimensat": (280, 88),
    "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "pipe": (22, None), "pipe2": (293, 59), "fcntl": (72, 25),
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72), "epoll_create": (213, None),
    "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None), "epoll_pwait": (281, 22),
    "eventfd2": (290, 19), "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216), "mprotect": (10, 226),
    "madvise": (28, 233), "brk": (12, 214), "membarrier": (324, 283), "mincore": (27, 232), "msync": (26, 227),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132), "pause": (34, None),
    "alarm": (37, None), "setitimer": (38, 103), "getitimer": (36, 102), "restart_syscall": (219, 128),
    "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158), "getpgrp": (111, None),
    "getpgid": (121, 155), "getsid": (124, 156), "getresuid": (118, 148), "getresgid": (120, 150), "futex": (202, 98),
    "set_robust_list": (273, 99), "get_robust_list": (274, 100), "set_tid_address": (218, 96), "rseq": (334, 293),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120), "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126),
    "getcpu": (309, 168), "arch_prctl": (158, None), "getrlimit": (97, 163), "prlimit64": (302, 261),
    "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153), "uname": (63, 160), "getrandom": (318, 278),
    "exit": (60, 93), "exit_group": (231, 94), "nanosleep": (35, 101), "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None),
    "wait4": (61, 260), "waitid": (247, 95), "sendfile": (40, 71), "copy_file_range": (326, 285),
    "getpriority": (140, 141),
}  # fmt: skip
"""For each allowed call: (its number on x86_64, its number on aarch64). None means that there is no such call."""


class _Machine(NamedTuple):
    column: int
    audit: int
    """The processor's AUDIT_ARCH in linux/audit.h. A 32-bit call on a 64-bit kernel has another value, and its program
    is killed."""
    clone: int
    clone3: int
    kill: int
    tgkill: int
    fcntl: int
    prctl: int
    ioctl: int


_MACHINES = {
    "x86_64": _Machine(0, 0xC000003E, 56, 435, 62, 234, 72, 157, 16),
    "aarch64": _Machine(1, 0xC00000B7, 220, 435, 129, 131, 25, 167, 29),
}

_LOAD, _EQUAL, _MASKED, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF_LD|W|ABS, JMP|JEQ|K, JMP|JSET|K, RET|K
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_EPERM, _EAGAIN, _ENOSYS = 0x00050001, 0x0005000B, 0x00050026
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24  # offsets in struct seccomp_data, low words

_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020080  # NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET, NEWTIME
_F_SETPIPE_SZ = 1031
_HARMLESS_PRCTL = (15, 16, 38, 39)  # SET_NAME GET_NAME, SET_NO_NEW_PRIVS GET_NO_NEW_PRIVS
# TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
_HARMLESS_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)


def machine() -> str | None:
    """Returns the name of this machine's processor, or None if there is no filter for the processor."""
    return platform.machine() if platform.machine() in _MACHINES and struct.calcsize("P") == 8 else None


def program_filter(processor: str | None = None) -> bytes:
    """Returns the filter as `struct sock_filter[]`, 8 bytes for each instruction.

    The filter is for a program that is the first process of its PID namespace. `processor` is this machine's if None.
    Raises KeyError when there is no table for the processor.
    """
    m = _MACHINES[processor or platform.machine()]
    lines: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, m.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NR),
    ]

    def when(number: int, *then: tuple[int, int, int, int]) -> None:
        """Adds the instructions `then` for the system call of this number alone. They must end in a return."""
        lines.extend([(_EQUAL, 0, len(then), number), *then])

    def argument(offset: int, values: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
        tests = [(_EQUAL, len(values) - i, 0, v) for i, v in enumerate(values)]
        return [(_LOAD, 0, 0, offset), *tests, (_RETURN, 0, 0, _EPERM), (_RETURN, 0, 0, _ALLOW)]

    for numbers in _ALLOWED.values():
        if (number := numbers[m.column]) is not None and number != m.fcntl:
            when(number, (_RETURN, 0, 0, _ALLOW))
    when(m.clone3, (_RETURN, 0, 0, _ENOSYS))
    when(
        m.clone,
        (_LOAD, 0, 0, _ARG0),
        (_MASKED, 2, 0, _CLONE_NAMESPACES),
        (_MASKED, 0, 2, _CLONE_THREAD),  # a thread shares its memory: the kernel holds CLONE_THREAD to CLONE_VM
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _EAGAIN),
    )
    when(m.kill, *argument(_ARG0, (0, 1)))
    when(m.tgkill, *argument(_ARG0, (1,)))
    when(m.prctl, *argument(_ARG0, _HARMLESS_PRCTL))
    when(m.ioctl, *argument(_ARG1, _HARMLESS_IOCTL))
    when(m.fcntl, (_LOAD, 0, 0, _ARG1), (_EQUAL, 0, 1, _F_SETPIPE_SZ), (_RETURN, 0, 0, _EPERM), (_RETURN, 0, 0, _ALLOW))
    lines.append((_RETURN, 0, 0, _EPERM))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
