"""Renew a warm sandbox for each job: the work folder, which is all that can be written, and the process number.

An emptied folder still shows by its mode, its times, its attributes and the inode numbers of its files what was done in
it; therefore each job has a file system of its own, mounted over the folder before the job and unmounted after it. The
first process keeps the right to mount, inside its namespaces only, and each job gives it up before its code runs. Where
the host does not grant that right, a sandbox does one job and is replaced. Left to others: traces elsewhere (locks,
watches, memory), which `seccomp` prevents.

Source: Linux, mount(2), user_namespaces(7), proc_sys_kernel(5) on ns_last_pid.
"""

import ctypes
import os
import struct
from pathlib import Path

WORK = Path("/work")
LAST_PROCESS, USER_NAMESPACES = Path("/settings/last_process"), Path("/settings/user_namespaces")
"""Two kernel settings of these namespaces; unmounted once the first process has written them."""
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _REMOUNT, _BIND = 0x1, 0x2, 0x4, 0x20, 0x1000
_DETACH = 2
_FLAGS_KEPT = {
    os.ST_NOSUID: 0x2,
    os.ST_NODEV: 0x4,
    os.ST_NOEXEC: 0x8,
    os.ST_NOATIME: 0x400,
    os.ST_NODIRATIME: 0x800,
    os.ST_RELATIME: 0x200000,
}
"""Mount flags as statvfs reports them -> as mount takes them."""
_CAPABILITY_VERSION = 0x20080522
_BYTES_A_FILE = 4096
"""Bytes of the work folder's size per file: the kernel's memory of an empty file is not counted there."""
_MOST_FILES = 1_000
_libc = ctypes.CDLL(None, use_errno=True)


class Renewal:
    """Means of the first process to renew a sandbox."""

    def __init__(self, disk_bytes: int) -> None:
        """Fix what stays: no further user namespaces, a bound on files, devices whose times nobody can change.

        Raises:
            OSError: the host does not grant the right to mount, or the kernel has no such settings.
        """
        self._options = f"mode=0700,size={disk_bytes},nr_inodes={disk_bytes // _BYTES_A_FILE}".encode()
        _mount(None, WORK, None, _REMOUNT | _NO_SETUID | _NO_DEVICES, self._options)  # a session's own, which stays
        USER_NAMESPACES.write_text("0", encoding="ascii")
        for device in Path("/dev").iterdir():  # read-only: a job could leave a message in a device's time stamps
            flags = sum(flag for said, flag in _FLAGS_KEPT.items() if os.statvfs(device).f_flag & said)
            _mount(None, device, None, _REMOUNT | _BIND | _READ_ONLY | flags, None)
        _unmount(USER_NAMESPACES, _DETACH)
        self._last_process = os.open(LAST_PROCESS, os.O_WRONLY)
        try:
            _unmount(LAST_PROCESS, _DETACH)
        except OSError:
            self.close()  # no job may have it
            raise

    def begin(self) -> None:
        """Mount an empty work folder, and set the next process's number to 2."""
        _mount(b"work", WORK, b"tmpfs", _NO_SETUID | _NO_DEVICES, self._options)
        os.pwrite(self._last_process, b"1", 0)  # else process numbers would count the jobs before

    def end(self) -> bool:
        """Unmount the work folder.

        Returns:
            False where something still holds it, or where it has so many files that a new sandbox is as quick.
        """
        usage = os.statvfs(WORK)
        if usage.f_files - usage.f_ffree > _MOST_FILES:
            return False
        try:
            _unmount(WORK, 0)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the means, in a fork of the first process."""
        os.close(self._last_process)


def renewal(disk_bytes: int) -> Renewal | None:
    """Return the means to renew this sandbox for each job; None where the host does not grant them."""
    try:
        return Renewal(disk_bytes)
    except OSError:
        return None


def give_up_rights() -> None:
    """Drop every capability of this process, for good.

    Raises:
        OSError: the kernel refused.
    """
    if _libc.capset(struct.pack("Ii", _CAPABILITY_VERSION, 0), bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "the kernel did not take the capabilities away")


def _mount(source: bytes | None, target: Path, kind: bytes | None, flags: int, options: bytes | None) -> None:
    if _libc.mount(source, bytes(target), kind, ctypes.c_ulong(flags), options) != 0:
        raise OSError(ctypes.get_errno(), f"cannot mount {target}")


def _unmount(target: Path, flags: int) -> None:
    if _libc.umount2(bytes(target), flags) != 0:
        raise OSError(ctypes.get_errno(), f"cannot unmount {target}")
