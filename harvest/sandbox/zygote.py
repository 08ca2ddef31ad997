"""Runs as the first process inside the jail (the zygote), and forks for each program, into new namespaces.

harvest/sandbox/jail.py starts the zygote as `python -I -S`, with a socket to the judge as descriptor 0. Of winnow's
files, the zygote imports only those that lie beside it in the jail. The zygote never runs a program's code. The forked
process runs the code, after it has given up every capability and has put the seccomp filter on.

    judge → zygote   run NUMBER MEMORY CPU_S FILE_BYTES TMP_BYTES THREADS  + descriptors: channel, stdin, stdout, stderr
                     kill NUMBER
    zygote → judge   ready · ended NUMBER STATUS

A cold zygote does not fork: it becomes the program, and the jail ends when the program ends.
"""

import _ctypes
import _signal  # type: ignore[import-not-found]
import _socket
import _struct
import gc
import marshal
import os
import resource
import select
import sys

# The C modules beneath ctypes, signal, socket and struct, which would take longer to import than all the rest.

OPEN_FILES = 64
_NEWNS, _NEWIPC, _NEWPID = 0x00020000, 0x08000000, 0x20000000
_NOSUID_NODEV = 2 | 4
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_MACHINE = os.uname().machine
_CALLS = {
    "x86_64": {"unshare": 272, "setns": 308, "mount": 165, "prctl": 157, "capset": 126},
    "aarch64": {"unshare": 97, "setns": 268, "mount": 40, "prctl": 167, "capset": 91},
}.get(_MACHINE, {})

isolated, warm = sys.argv[1] == "isolated", sys.argv[2] == "warm"


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Byte(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "B"


class _Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long


_syscall = _Function(_ctypes.dlsym(_ctypes.dlopen("libc.so.6", os.RTLD_NOW), "syscall"))


def call(name: str, *arguments: "int | bytes") -> None:
    """Makes a system call. An argument of bytes is passed as a pointer to the bytes.

    Raises OSError, which names the call, when the call fails.
    """
    given = [_Long(a) if isinstance(a, int) else a for a in arguments]
    if _syscall(_Long(_CALLS[name]), *given) < 0:
        raise OSError(_ctypes.get_errno(), name)


def own_namespaces(tmp_bytes: int) -> None:
    """Gives this process a mount namespace of its own, with an empty /tmp of `tmp_bytes` bytes.

    The PID namespace is new already. A cold zygote has the whole jail for itself, so it gets only the /tmp.
    """
    if warm:
        call("unshare", _NEWNS | _NEWIPC)
    options = b"size=%d,nr_inodes=2000,mode=0700,uid=65534,gid=65534" % tmp_bytes
    call("mount", b"tmpfs", b"/tmp", b"tmpfs", _NOSUID_NODEV, options)


def limit(memory: int, cpu_s: int, file_bytes: int, threads: int) -> None:
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, threads),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        if kind == resource.RLIMIT_NPROC and not isolated:
            continue  # it would count all that the user runs
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def drop(filter_bytes: bytes) -> None:
    """Gives up all capabilities and puts the seccomp filter on. Neither can be undone."""
    call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
    call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    call("capset", _struct.pack("Ii", 0x20080522, 0), bytes(24))
    kept = type("Lines", (_ctypes.Array,), {"_type_": _Byte, "_length_": len(filter_bytes)})
    lines = kept.from_buffer_copy(filter_bytes)  # type: ignore[attr-defined]
    call("prctl", _PR_SET_SECCOMP, 2, _struct.pack("H6xQ", len(lines) // 8, _ctypes.addressof(lines)), 0, 0)


def read_exactly(fd: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def become_program(words: list[bytes], fds: list[int], filter_bytes: bytes) -> None:
    """Moves the descriptors to the numbers 0 to 3, sets the limits, drops the privileges, and runs the program."""
    memory, cpu_s, file_bytes, tmp_bytes, threads = map(int, words[2:7])
    os.setsid()
    channel, *standard = fds
    for place, fd in enumerate(standard):
        os.dup2(fd, place)
    os.dup2(channel, 3)
    os.closerange(4, 256)
    if isolated:
        own_namespaces(tmp_bytes)
        os.chdir("/tmp")
    job = marshal.loads(read_exactly(3, int.from_bytes(read_exactly(3, 4), "big")))
    os.environ.clear()
    for number in (_signal.SIGINT, _signal.SIGTERM):
        _signal.signal(number, _signal.SIG_DFL)
    limit(memory, cpu_s, file_bytes, threads)
    import stage  # type: ignore[import-not-found]

    if isolated:
        drop(filter_bytes)

    stage.enter(job, 3)


def main() -> None:
    sys.path.insert(0, __file__.rpartition("/")[0])
    control = _socket.socket(fileno=os.dup(0))
    filter_bytes = control.recv(65536)
    if warm:
        import stage

        stage.warm()
        gc.collect()
        gc.freeze()
    if isolated:
        call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
    own = os.pidfd_open(os.getpid()) if warm else -1
    control.send(b"ready")
    while True:
        message, ancillary, _, _ = control.recvmsg(4096, _socket.CMSG_SPACE(16))
        if not message:
            os._exit(0)
        words = message.split()
        if words[0] != b"run":
            continue
        data = ancillary[0][2]
        fds = [int.from_bytes(data[i : i + 4], sys.byteorder) for i in range(0, len(data), 4)]
        if isolated and warm:
            call("setns", own, _NEWPID)
            call("unshare", _NEWPID)
        pid = os.fork() if warm else 0
        if pid == 0:
            try:
                become_program(words, fds, filter_bytes)
            finally:
                os._exit(127)
        for fd in fds:
            os.close(fd)
        watch(control, pid, words[1])


def watch(control: "_socket.socket", pid: int, number: bytes) -> None:
    """Waits until the program has ended, and tells the judge how it ended.

    Kills the program when the judge says so. When the judge is gone, kills the program and ends this process.
    """
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(control.fileno(), select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if ended in ready:
            break
        words = control.recv(4096).split()
        if not words or words == [b"kill", number]:
            (os.kill if isolated else os.killpg)(pid, _signal.SIGKILL)
            if not words:
                os._exit(0)
    os.close(ended)
    control.send(b"ended %s %d" % (number, os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
