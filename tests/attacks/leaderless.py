# A program whose first thread ends while another goes on: the process is a zombie to look at, and lives.
import ctypes, threading, time

libc = ctypes.CDLL(None)
threading.Thread(target=lambda: time.sleep(9999)).start()
libc.syscall(60, 0)  # exit, of this thread alone
