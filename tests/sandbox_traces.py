"""Attempts to tell the next job something through what a job leaves; a table of `sandbox_attempts`."""

from sandbox_attempt import LIBC, Attempt, only_in_job


def left(name: str, code: str, then: str) -> Attempt:
    """An attempt to tell the next job something; both run in one folder, one after the other, and `then` is true where
    it was told."""
    return only_in_job(f"tell the next job by {name}", code, then=then)


FCNTL = "import fcntl, struct; "
INOTIFY = LIBC + "watch = libc.inotify_init(); "
REMAP = LIBC + "libc.mmap.restype = ctypes.c_void_p; at = libc.mmap(None, 1 << 20, 3, 0x21, -1, 0); "
LEFT = (
    left(
        "the mode of the work folder",
        "import os; os.chmod('.', 0o500)",
        "import os; return os.stat('.').st_mode & 0o777 == 0o500",
    ),
    left(
        "the times of the work folder",
        "import os; os.utime('.', ns=(5, 7))",
        "import os; return (os.stat('.').st_atime_ns, os.stat('.').st_mtime_ns) == (5, 7)",
    ),
    left(
        "the time of its last change",
        "import os; os.utime('.', ns=(0, 10**18)); open('now', 'w').close()",
        "import os; return os.path.exists('now') or os.stat('.').st_mtime_ns == 10**18",
    ),
    left(
        "the flags of the work folder",
        FCNTL + "import os; fcntl.ioctl(os.open('.', 0), 0x40086602, struct.pack('l', 0x40))",
        FCNTL + "import os; return struct.unpack('l', fcntl.ioctl(os.open('.', 0), 0x80086601, bytes(8)))[0] & 0x40",
    ),
    left(
        "an attribute of the work folder",
        "import os; os.setxattr('.', 'user.x', b'5')",
        "import os; return os.getxattr('.', 'user.x') == b'5'",
    ),
    left(
        "the group of the work folder",
        "import os; os.chmod('.', 0o2700)",
        "import os; return os.stat('.').st_mode & 0o2000",
    ),
    left(
        "how many links the work folder has",
        "import os; os.mkdir('a'); os.mkdir('b')",
        "import os; return os.stat('.').st_nlink > 3",
    ),
    left(
        "the numbers of files",
        "for n in range(40): open(f'f{n}', 'w').close()",
        "import os; open('g', 'w').close(); return os.path.exists('f3') or os.stat('g').st_ino > 30",
    ),
    left(
        "how readily the runner is killed for memory",
        "import os; open(f'/proc/{os.getppid()}/oom_score_adj', 'w').write('999')",
        "import os; return open(f'/proc/{os.getppid()}/oom_score_adj').read() == '999\\n'",
    ),
    left(
        "the size of a dump of the runner",
        "import os; open(f'/proc/{os.getppid()}/coredump_filter', 'w').write('0x23')",
        "import os; return int(open(f'/proc/{os.getppid()}/coredump_filter').read(), 16) == 0x23",
    ),
    left(
        "a folder without rights",
        "import os; os.makedirs('a/b'); os.chmod('a', 0)",
        "import os; return os.path.exists('a')",
    ),
    left(
        "a very deep folder",
        "import os\nfor _ in range(300):\n    os.mkdir('d'); os.chdir('d')",
        "import os; return os.path.exists('d')",
    ),
    left(
        "a file with a name of bytes",
        "open(b'\\xff\\xfe', 'w').close()",
        "import os; return b'\\xff\\xfe' in os.listdir(b'.')",
    ),
    left(
        "a link that leads nowhere",
        "import os; os.symlink('/nowhere', 'link')",
        "import os; return os.path.islink('link')",
    ),
    left(
        "a named pipe in place of a file",
        "import os; os.mkfifo('.output')",
        "import os; return os.path.exists('.output')",
    ),
    left(
        "a named pipe that is open",
        "import os; os.mkfifo('p'); f = os.open('p', os.O_RDWR); os.write(f, b'5'); os.set_inheritable(f, True)",
        "import os; return os.path.exists('p')",
    ),
    left(
        "messages on their way",
        "import socket, os\na, b = socket.socketpair()\nf = os.open('way', os.O_RDWR | "
        "os.O_CREAT)\nsocket.send_fds(a, [b'x'], [f, a.fileno()])",
        "import os; return os.path.exists('way')",
    ),
    left(
        "a folder as its own current one",
        "import os; os.mkdir('here'); os.chdir('here')",
        "import os; return os.path.exists('here')",
    ),
    Attempt("change the times of a device", "import os; os.utime('/dev/null'); return True"),
    only_in_job(
        "lock a file of the host",
        FCNTL + "fcntl.flock(open('/usr/bin/env'), fcntl.LOCK_SH | fcntl.LOCK_NB); return True",
    ),
    only_in_job(
        "lock a part of a file of the host",
        FCNTL + "fcntl.lockf(open('/usr/bin/env'), fcntl.LOCK_SH | fcntl.LOCK_NB); return True",
    ),
    only_in_job(
        "lock an open file of the host",
        FCNTL + "fcntl.fcntl(open('/usr/bin/env'), 37, struct.pack('hhqqi', 0, 0, 0, 0, 0) + bytes(8)); return True",
    ),
    only_in_job(
        "see the locks on a file of the host",
        FCNTL
        + "return fcntl.fcntl(open('/usr/bin/env'), fcntl.F_GETLK, struct.pack('hhqqi', 1, 0, 0, 0, 0) + bytes(8))",
    ),
    Attempt(
        "lease a file of the host",
        FCNTL + "fcntl.fcntl(open('/usr/bin/env'), fcntl.F_SETLEASE, fcntl.F_RDLCK); return True",
        root=True,
    ),
    Attempt(
        "be told what happens in a folder of the host",
        FCNTL + "fcntl.fcntl(open('/dev/null'), fcntl.F_GETLEASE); return True",
    ),
    Attempt("watch a folder of the host", INOTIFY + "return libc.inotify_add_watch(watch, b'/usr/bin', 0x20) >= 0"),
    Attempt("have a watch on files", INOTIFY + "return watch >= 0"),
    only_in_job("have a large pipe", FCNTL + "import os; return fcntl.fcntl(os.pipe()[1], 1031, 1 << 17) > 1 << 16"),
    Attempt("hold memory in a file without a name", "import os; return os.memfd_create('m')"),
    Attempt(
        "hold memory that is mapped no more",
        REMAP + "return at != 2**64 - 1 and libc.munmap(ctypes.c_void_p(at + 4096), (1 << 20) - 4096) == 0",
    ),
    Attempt(
        "share memory through a device", "import mmap, os; return mmap.mmap(os.open('/dev/zero', os.O_RDWR), 1 << 20)"
    ),
    only_in_job(
        "read the processor time of the runner",
        "import os, time; return time.clock_gettime((~os.getppid() << 3) | 2) >= 0",
    ),
)
