"""Attempts to get out of the sandbox, or to use up the machine: each is code that says whether it succeeded, and that
does no harm where it does.

Outside a sandbox each succeeds (the tests make sure of that, so a check that cannot notice anything is found out); in
it none may. In the code FILE is a file of the host, FOLDER one that it may write, PORT, SOCKET and ABSTRACT somebody
who listens, PID a process of the host, FIRST the first process or one like it, HOSTNAME the host's name, and SYS_name
the number of a system call. To add an attempt, add a line to one of the tables.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """One attempt.

    Attributes:
        name: what is tried.
        code: the body of a function; returns something true, or prints ESCAPED, where it succeeded.
        job: whether it is tried in a warm runner's job, where processes, sockets and shared memory are forbidden too.
        session: whether it is tried as an agent's command, which may have those.
        root: whether even outside only root succeeds.
        then: the body of a second function, run after the first has ended: what was tried is to leave something behind.
    """

    name: str
    code: str
    job: bool = True
    session: bool = True
    root: bool = False
    then: str = ""


LIBC = "import ctypes; libc = ctypes.CDLL(None, use_errno=True); "


def reaches_the_kernel(
    name: str, arguments: str, root: bool = False, job: bool = True, session: bool = True
) -> Attempt:
    """A system call with arguments that do nothing: denied by the filter it gives EPERM or ENOSYS, else anything but
    that."""
    code = LIBC + (
        f"import errno; done = libc.syscall(SYS_{name}, {arguments}); return done >= 0 or ctypes.get_errno() not "
        "in (errno.EPERM, errno.ENOSYS)"
    )
    return Attempt(f"system call {name}", code, job, session, root)


def only_in_job(name: str, code: str, **more: bool | str) -> Attempt:
    """An attempt at something that an agent's commands may do."""
    return Attempt(name, code, session=False, **more)


FILES = (
    Attempt("read a file of the host", "return open('FILE').read()"),
    Attempt("read a file of the host through folders above", "import os; return open('../' * 30 + 'FILE').read()"),
    Attempt(
        "read a file of the host through a symbolic link",
        "import os; os.symlink('FILE', 'link'); return open('link').read()",
    ),
    Attempt(
        "read a file of the host through a hard link",
        "import os; os.link('FILE', 'FOLDER/hard'); os.unlink('FOLDER/hard'); return True",
    ),
    Attempt(
        "read a file of the host through the first process",
        "return open('/proc/FIRST/root' + 'FILE').read()",
        root=True,
    ),
    Attempt("read a file of the host through an own folder in /proc", "return open('/proc/self/root' + 'FILE').read()"),
    Attempt(
        "read a file of the host through another process's folder",
        "return open('/proc/PID/cwd/../../../../../../..' + 'FILE').read()",
    ),
    Attempt(
        "change the owner of a file of the host", "import os; os.chown('FILE', os.getuid(), os.getgid()); return True"
    ),
    Attempt(
        "write beside a file of the host",
        "import pathlib; p = pathlib.Path('FOLDER/new'); p.touch(); p.unlink(); return True",
    ),
    Attempt(
        "write above the work folder",
        "import pathlib; p = pathlib.Path('../new-by-attempt'); p.touch(); p.unlink(); return True",
    ),
    Attempt(
        "write into the system",
        "import pathlib; p = pathlib.Path('/usr/new-by-attempt'); p.touch(); p.unlink(); return True",
        root=True,
    ),
    Attempt("see the host's configuration", "import os; return len(os.listdir('/etc')) > 1"),
    Attempt(
        "see the host's other folders",
        "import os; return [p for p in ('/root', '/home', '/var', '/boot', '/sys', '/run') if os.path.exists(p)]",
    ),
    Attempt("see control groups", "import os; return os.listdir('/sys/fs/cgroup')"),
    Attempt("see devices", "import os; return set(os.listdir('/dev')) - {'null', 'zero', 'random', 'urandom'}"),
    Attempt(
        "make a device",
        "import os, stat; os.mknod('disk', stat.S_IFBLK | 0o600, os.makedev(254, 0)); os.unlink('disk'); return True",
        root=True,
    ),
    Attempt(
        "open the kernel's settings for writing",
        "return open('/proc/sys/kernel/core_pattern', 'r+').fileno()",
        root=True,
    ),
    Attempt(
        "open the kernel's caches for writing",
        "import os; return os.open('/proc/sys/vm/drop_caches', os.O_WRONLY)",
        root=True,
    ),
    Attempt("read the first process's memory", "return open('/proc/FIRST/mem', 'rb').fileno()", root=True),
    Attempt("see the first process's descriptors", "import os; return os.listdir('/proc/FIRST/fd')", root=True),
    Attempt("see the first process's environment", "return open('/proc/FIRST/environ', 'rb').fileno()", root=True),
    Attempt("see a process of the host", "return b'python' in open('/proc/PID/cmdline', 'rb').read()"),
    Attempt("see the host's environment", "import os; return os.environ.get('ASTRAY_CANARY')"),
    Attempt("see the host's name", "import os; return os.uname().nodename == 'HOSTNAME'"),
    Attempt("see the names of the host's users", "import pwd; return len(pwd.getpwall()) > 1"),
)

NETWORK = (
    Attempt(
        "connect to a server on the host", "import socket; return socket.create_connection(('127.0.0.1', PORT), 2)"
    ),
    Attempt(
        "send a datagram on the host",
        "import socket; "
        "s = socket.socket(2, 2); s.connect(('127.0.0.1', PORT)); return s.send(b'x') and "
        "socket.create_connection(('127.0.0.1', PORT), 2)",
    ),
    Attempt(
        "connect to an abstract socket of the host",
        "import socket; s = socket.socket(1); s.connect(b'\\0' + b'ABSTRACT'); return True",
    ),
    Attempt(
        "connect to a socket file of the host", "import socket; s = socket.socket(1); s.connect('SOCKET'); return True"
    ),
    Attempt(
        "see network devices of the host",
        "import socket; return len(socket.if_nameindex()) > 1 or socket.if_nameindex()[0][1] != 'lo'",
    ),
    Attempt("open a netlink socket", "import socket; return socket.socket(16, 3)"),
    Attempt("open a raw packet socket", "import socket; return socket.socket(17, 3)", root=True),
    Attempt(
        "reach the machine's hypervisor by vsock",
        LIBC + "import errno; return libc.socket(40, 1, 0) >= 0 or ctypes.get_errno() != errno.EPERM",
    ),
    Attempt(
        "open a socket of the kernel's cryptography",
        LIBC + "import errno; return libc.socket(38, 5, 0) >= 0 or ctypes.get_errno() != errno.EPERM",
    ),
    only_in_job("open a network socket", "import socket; return socket.socket()"),
)

PROCESSES = (
    Attempt("signal a process of the host", "import os; os.kill(PID, 0); return True"),
    only_in_job("signal the runner", "import os; os.kill(os.getppid(), 0); return True"),
    only_in_job("signal everybody", "import os; os.kill(-1, 0); return True"),
    only_in_job("signal a process group", "import os; os.killpg(os.getpgid(os.getppid()), 0); return True"),
    only_in_job(
        "signal a thread of the runner",
        LIBC + "import os; return libc.syscall(SYS_tgkill, os.getppid(), os.getppid(), 0) == 0",
    ),
    only_in_job("hold the runner by a descriptor", "import os; return os.pidfd_open(os.getppid())"),
    only_in_job(
        "change the runner's priority",
        "import os; os.setpriority(0, os.getppid(), os.getpriority(0, os.getppid())); return True",
    ),
    only_in_job(
        "change the runner's processors",
        "import os; os.sched_setaffinity(os.getppid(), os.sched_getaffinity(os.getppid())); return True",
    ),
    only_in_job("change the runner's limits", "import os, resource; resource.prlimit(os.getppid(), 7); return True"),
    only_in_job("start a process", "import os; pid = os.fork(); pid or os._exit(0); os.waitpid(pid, 0); return True"),
    only_in_job("start a program", "import subprocess; return subprocess.run(['/bin/true']).returncode == 0"),
    only_in_job("become a program", "import os; os.execv('/bin/echo', ['echo', 'ESCAPED'])"),
    only_in_job(
        "leave a daemon", "import os; pid = os.fork(); pid or (os.setsid(), os.fork(), os._exit(0)); return True"
    ),
    only_in_job(
        "start a process through multiprocessing",
        "import multiprocessing as m; p = m.get_context('fork').Process(target=print); p.start(); p.join(); return "
        "True",
    ),
    only_in_job(
        "run many threads",
        "import threading, time; [threading.Thread(target=time.sleep, args=(0.5,)).start() for _ in range(60)]; "
        "return True",
    ),
    Attempt(
        "run many processes",
        "import os, time\nfor _ in range(100):\n    if os.fork() == 0:\n        time.sleep(1); os._exit(0)\nreturn "
        "True",
        job=False,
    ),
    Attempt("become root", "import os; os.setuid(0); return True", root=True),
    Attempt("become another user", "import os; os.setuid(12345); return True", root=True),
    Attempt("join a group", "import os; os.setgroups([0]); return True", root=True),
    Attempt(
        "become root by a setuid program",
        "import subprocess; subprocess.run(['su', 'root', '-c', 'echo ESCAPED'], stdin=subprocess.DEVNULL)",
        root=True,
    ),
    Attempt(
        "have capabilities",
        "return int([l for l in open('/proc/self/status') if l.startswith('CapEff')][0].split()[1], 16)",
        root=True,
    ),
    Attempt(
        "raise the limit of memory", "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1)); return True"
    ),
    Attempt(
        "raise the limit of processes",
        "import resource; resource.setrlimit(resource.RLIMIT_NPROC, (1000, 1000)); return True",
        root=True,
    ),
    Attempt(
        "raise the limit of time", "import resource; resource.setrlimit(resource.RLIMIT_CPU, (-1, -1)); return True"
    ),
    Attempt("leave a core dump", "import resource; return resource.getrlimit(resource.RLIMIT_CORE)[1] != 0"),
    Attempt(
        "type into the terminal",
        LIBC + "import errno; return libc.ioctl(0, 0x5412, b'x') == 0 or ctypes.get_errno() != errno.EPERM",
    ),
)

RESOURCES = (
    Attempt("have much memory", "block = bytearray(600 << 20); return True"),
    Attempt("map much memory", "import mmap; block = mmap.mmap(-1, 3 << 30); return True"),
    only_in_job(
        "hide memory in a file without a name",
        "import os; f = os.memfd_create('m'); return os.write(f, bytes(1 << 20))",
    ),
    only_in_job(
        "share memory that stays",
        "from multiprocessing import shared_memory as s; m = s.SharedMemory(create=True, size=4096); m.close(); "
        "m.unlink(); return True",
    ),
    only_in_job(
        "get a shared segment",
        LIBC + "i = libc.shmget(0, 4096, 0o1600); i >= 0 and libc.shmctl(i, 0, None); return i >= 0",
    ),
    only_in_job(
        "get semaphores", LIBC + "i = libc.semget(0, 1, 0o1600); i >= 0 and libc.semctl(i, 0, 0); return i >= 0"
    ),
    only_in_job(
        "get a message queue", LIBC + "i = libc.msgget(0, 0o1600); i >= 0 and libc.msgctl(i, 0, None); return i >= 0"
    ),
    Attempt(
        "write a large file",
        "import os\nwith open('large', 'wb') as f:\n    for _ in range(70):\n        f.write(bytes(1 << "
        "20))\nos.unlink('large'); return True",
    ),
    only_in_job(
        "write many files", "import os\nfor i in range(40):\n    open(f'f{i}', 'wb').write(bytes(1 << 20))\nreturn True"
    ),
    Attempt("have many open files", "import os; held = [os.open('/dev/null', 0) for _ in range(300)]; return True"),
    only_in_job(
        "unpack a zip bomb",
        "import zlib; bomb = zlib.compress(bytes(1 << 22)); held = [zlib.decompress(bomb) for _ in range(150)]; "
        "return True",
    ),
    only_in_job("leave a file for the next job", "open('left', 'w').write('x')", then="return open('left').read()"),
    only_in_job(
        "leave a hidden folder without rights",
        "import os; os.makedirs('.a/b'); os.chmod('.a/b', 0); os.chmod('.a', 0)",
        then="import os; return os.path.exists('.a')",
    ),
    only_in_job("leave a named pipe", "import os; os.mkfifo('pipe')", then="import os; return os.path.exists('pipe')"),
    only_in_job(
        "leave a socket file",
        "import socket, os; s = socket.socket(1); s.bind('left.sock')",
        then="import os; return os.path.exists('left.sock')",
    ),
)


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

CALLS = (
    reaches_the_kernel("ptrace", "0, 0, 0, 0"),
    reaches_the_kernel("process_vm_readv", "1, 0, 0, 0, 0, 1"),
    reaches_the_kernel("keyctl", "0, -3, 0"),
    reaches_the_kernel("add_key", "0, 0, 0, 0, 0"),
    reaches_the_kernel("mount", "0, b'/no-such-place', 0, 0, 0", root=True),
    reaches_the_kernel("umount2", "b'/no-such-place', 0", root=True),
    reaches_the_kernel("pivot_root", "b'/no-such-place', b'/no-such-place'", root=True),
    reaches_the_kernel("chroot", "b'/no-such-place'"),
    reaches_the_kernel("unshare", "0x10000000"),
    reaches_the_kernel("setns", "-1, 0"),
    reaches_the_kernel("clone", "0x10000200, 0, 0, 0, 0"),
    reaches_the_kernel("clone3", "0, 0"),
    reaches_the_kernel("fsopen", "0, 0", root=True),
    reaches_the_kernel("open_tree", "-1, 0, 0"),
    reaches_the_kernel("bpf", "0, 0, 0", root=True),
    reaches_the_kernel("perf_event_open", "0, 0, 0, 0, 0"),
    reaches_the_kernel("userfaultfd", "0xFFFF", root=True),
    reaches_the_kernel("io_uring_setup", "0, 0"),
    reaches_the_kernel("open_by_handle_at", "-1, 0, 0", root=True),
    reaches_the_kernel("name_to_handle_at", "-1, 0, 0, 0, 0"),
    reaches_the_kernel("fanotify_init", "0xFFFF, 0", root=True),
    reaches_the_kernel("reboot", "0, 0, 0, 0", root=True),
    reaches_the_kernel("syslog", "10, 0, 0", root=True),
    reaches_the_kernel("acct", "b'/no-such-place'", root=True),
    reaches_the_kernel("swapon", "0, 0", root=True),
    reaches_the_kernel("swapoff", "b'/no-such-place'", root=True),
    reaches_the_kernel("sethostname", "0, -1", root=True),
    reaches_the_kernel("settimeofday", "1, 0", root=True),
    reaches_the_kernel("memfd_create", "0, 0", session=False),
    reaches_the_kernel("mq_open", "0, 0, 0, 0", session=False),
)

ATTEMPTS = (*FILES, *NETWORK, *PROCESSES, *RESOURCES, *LEFT, *CALLS)
