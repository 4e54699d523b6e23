"""Tries to look into the process of the number given, in every way that a process of the same user may have; prints what it
could see, a word each."""

import ctypes
import os
import sys

PTRACE_ATTACH, PTRACE_DETACH = 16, 17
SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 434, 438

pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
seen = []


def look(what, how):
    try:
        if how():
            seen.append(what)
    except OSError:
        pass


def opened(name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return name == "mem" or bool(file.read(1))


class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def read_memory():
    # Whether the address is one does not matter: who may look is told that it is none (EFAULT).
    buffer = ctypes.create_string_buffer(1)
    here, there = Piece(ctypes.addressof(buffer), 1), Piece(4096, 1)
    done = libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    return done == 1 or ctypes.get_errno() == 14


def trace():
    if libc.ptrace(PTRACE_ATTACH, pid, None, None) != 0:
        return False
    os.waitpid(pid, 0x40000000)
    libc.ptrace(PTRACE_DETACH, pid, None, None)
    return True


def take_descriptor():
    pidfd = libc.syscall(SYS_PIDFD_OPEN, pid, 0)
    return pidfd >= 0 and libc.syscall(SYS_PIDFD_GETFD, pidfd, 1, 0) >= 0


for name in ("environ", "mem", "maps", "auxv"):
    look(name, lambda: opened(name))
look("fd", lambda: os.listdir(f"/proc/{pid}/fd"))
for name in ("exe", "cwd", "root"):
    look(name, lambda: os.readlink(f"/proc/{pid}/{name}"))
look("memory", read_memory)
look("trace", trace)
look("descriptor", take_descriptor)
print(" ".join(seen))
