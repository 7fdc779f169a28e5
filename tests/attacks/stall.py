# A process that nobody can read: its memory map is locked while it waits for a file server that never answers.
#
#   stall.py DIRECTORY [wait]
#
# The server and the one who waits are the same program. With a word more it first waits for SIGUSR1, and needs root, as in
# a container; else it makes itself a user namespace, as every user may. A page fault that is tried a second time keeps the
# lock: so the first two READs are answered with an error, and the third is the one that lasts.
import ctypes, os, signal, struct, sys, threading

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
DIRECTORY = sys.argv[1]
LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT, INTERRUPT, BATCH_FORGET = 1, 2, 3, 14, 15, 18, 25, 26, 36, 42


def check(result, what):
    if result != 0:
        sys.exit(f"stall: {what}: {os.strerror(ctypes.get_errno())}")


def attributes(inode):
    mode = 0o40755 if inode == 1 else 0o100644
    return struct.pack("QQQQQQIIIIIIIIII", inode, 4096, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(operation, reads):
    if operation == INIT:
        return 0, struct.pack("IIIIHHIIHH", 7, 31, 65536, 0, 0, 0, 4096, 1, 0, 0).ljust(64, b"\0")
    if operation == LOOKUP:
        return 0, struct.pack("QQQQII", 2, 0, 100, 100, 0, 0) + attributes(2)
    if operation == OPEN:
        return 0, struct.pack("QII", 1, 0, 0)
    if operation == READ:
        return 5, b""
    return (0, b"") if operation in (RELEASE, FLUSH) else (38, b"")


def serve(device, told):
    reads = 0
    while True:
        request = os.read(device, 1 << 17)
        _, operation, unique, node = struct.unpack_from("IIQQ", request)
        if operation in (FORGET, INTERRUPT, BATCH_FORGET):
            continue
        if operation == READ:
            reads += 1
            if reads == 3:
                os.write(told, b"x")
                continue
        error, body = answer(operation, reads)
        if operation == GETATTR:
            error, body = 0, struct.pack("QII", 100, 0, 0) + attributes(node)
        try:
            os.write(device, struct.pack("IiQ", 16 + len(body), -error, unique) + body)
        except OSError:
            pass  # the one who asked has gone


def wait_for_ever(tells):
    libc.prctl(1, 9)
    file = os.open(DIRECTORY + "/f", os.O_RDONLY)
    page = libc.mmap(None, 4096, 1, 2, file, 0)
    buffer = ctypes.create_string_buffer(1)
    threading.Thread(target=lambda: libc.memcpy(buffer, page, 1)).start()
    os.read(tells, 1)
    # It takes its turn behind the fault, and everybody else behind it.
    threading.Thread(target=lambda: libc.mmap(None, 4096, 3, 0x22, -1, 0)).start()
    print("up", flush=True)
    signal.pause()


if len(sys.argv) > 2:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    signal.sigwait([signal.SIGUSR1])
else:
    uid, gid = os.getuid(), os.getgid()
    check(libc.unshare(0x10020000), "unshare")
    for name, text in [("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")]:
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
check(libc.mount(b"x", DIRECTORY.encode(), b"fuse", 0, options), "mount")
tells, told = os.pipe()
if os.fork() == 0:
    os.close(device)
    wait_for_ever(tells)
serve(device, told)
