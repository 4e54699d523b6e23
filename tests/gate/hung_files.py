"""Runs a command beside a file system that can be made to hang.

    hung_files.py DIRECTORY MOUNT COMMAND...

MOUNT shows the files of DIRECTORY (read only, no directories), through FUSE and without any cache, in a mount namespace of its
own. While DIRECTORY has a file named `hang`, nothing is answered; while it has one named `slow`, each answer takes as many
seconds as that says; while it has one named `fail`, each answer is an error, of the name that it has (`EIO`). Exit code 77: this
system does not allow that.
"""

import ctypes
import errno
import os
import select
import stat
import struct
import sys
import time

LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT = 1, 2, 3, 14, 15, 18, 25, 26
OPENDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 27, 29, 36, 38, 42
ROOT = 1
DIRECT_IO = 1
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 16384, 1 << 18
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)


def call(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter(mount):
    """Mounts at `mount`, where only this process and its children see it."""
    uid, gid = os.getuid(), os.getgid()
    call(libc.unshare(CLONE_NEWNS if uid == 0 else CLONE_NEWNS | CLONE_NEWUSER))
    if uid != 0:
        for file, line in [("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")]:
            with open(f"/proc/self/{file}", "w", encoding="ascii") as out:
                out.write(line)
    call(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    call(libc.mount(b"hung", mount.encode(), b"fuse.hung", MS_NOSUID | MS_NODEV, options))
    return device


class Files:
    def __init__(self, directory):
        self.directory = directory
        self.names = {}

    def path(self, node):
        return self.directory if node == ROOT else os.path.join(self.directory, self.names[node])

    def attributes(self, node):
        of = os.stat(self.path(node))
        mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o600
        return struct.pack(
            "<6Q10I", node, of.st_size, 0, int(of.st_atime), int(of.st_mtime), int(of.st_ctime), 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0
        )

    def answer(self, opcode, node, body):
        if opcode == INIT:
            return struct.pack("<4I2H2I2HI7I", 7, 31, 0, 0, 1, 1, 65536, 1, 16, 0, 0, *[0] * 7)
        if opcode == LOOKUP:
            name = body.rstrip(b"\0").decode()
            # Nodes by inode: a file that is renamed over is another one.
            node = os.stat(os.path.join(self.directory, name)).st_ino + 2
            self.names[node] = name
            return struct.pack("<4Q2I", node, 0, 0, 0, 0, 0) + self.attributes(node)
        if opcode == GETATTR:
            return struct.pack("<Q2I", 0, 0, 0) + self.attributes(node)
        if opcode == OPEN:
            return struct.pack("<Q2I", 0, DIRECT_IO, 0)
        if opcode == OPENDIR:
            return struct.pack("<Q2I", 0, 0, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("<2QI", body)
            with open(self.path(node), "rb") as file:
                file.seek(offset)
                return file.read(size)
        if opcode in (RELEASE, RELEASEDIR, FLUSH, DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "")


def serve(device, files):
    hang = os.path.join(files.directory, "hang")
    while os.getppid() != 1:
        # What is not taken from the kernel can be given up there: a process that waits for it can be ended.
        if os.path.exists(hang):
            time.sleep(0.01)
            continue
        if not select.select([device], [], [], 0.01)[0]:
            continue
        request = os.read(device, 1 << 17)
        _, opcode, unique, node, _, _, _, _ = struct.unpack_from("<2I2Q4I", request)
        if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
            continue
        slow = os.path.join(files.directory, "slow")
        if os.path.exists(slow):
            with open(slow, encoding="ascii") as file:
                time.sleep(float(file.read()))
        fail = os.path.join(files.directory, "fail")
        try:
            if os.path.exists(fail):
                with open(fail, encoding="ascii") as file:
                    raise OSError(getattr(errno, file.read()), "")
            error, body = 0, files.answer(opcode, node, request[40:])
        except OSError as failed:
            error, body = -(failed.errno or errno.EIO), b""
        try:
            os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
        except FileNotFoundError:
            pass  # Who asked has given up.


def main():
    directory, mount, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    try:
        device = enter(mount)
    except OSError as refused:
        print(refused, file=sys.stderr)
        sys.exit(77)
    if os.fork() == 0:
        libc.prctl(PR_SET_PDEATHSIG, 9)
        for inherited in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), inherited)
        serve(device, Files(directory))
        return
    os.close(device)
    os.execvp(command[0], command)


main()
