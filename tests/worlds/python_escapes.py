"""Attacks in Python: each is a program and a test that holds only if the attack succeeded.

A verdict of `passed` is therefore an escape. Words in capitals (`CANARY_FILE`, `TCP`, ...) stand for things outside.
"""

FORBIDDEN_READS = {
    "read_passwd": "open('/etc/passwd').read()",
    "read_canary": "open('CANARY_FILE').read()",
    "list_outside": "os.listdir('OUTSIDE')",
    "list_root_home": "os.listdir('/root') + os.listdir(os.path.expanduser('~root/.ssh'))",
    "list_homes": "os.listdir('/home')",
    "init_environment": "open('/proc/1/environ', 'rb').read()",
    "own_environment_of_host": "open('/proc/HOST/environ', 'rb').read()",
    "victim_environment": "open('/proc/VICTIM/environ', 'rb').read()",
    "victim_memory": "open('/proc/VICTIM/mem', 'rb')",
    "parent_memory": "open(f'/proc/{os.getppid()}/mem', 'rb')",
    "parent_descriptors": "os.listdir(f'/proc/{os.getppid()}/fd')",
    "host_folder": "os.listdir('/proc/HOST/cwd')",
    "link_to_passwd": "(os.symlink('/etc/passwd', 'link'), open('link').read())[1]",
    "link_to_folder": "(os.symlink('OUTSIDE', 'link'), open('link/canary.txt').read())[1]",
    "hard_link_to_canary": "(os.link('CANARY_FILE', 'link'), open('link').read())[1]",
    "dot_dot": "open('../' * 20 + 'etc/passwd').read()",
    "other_folders": "[x for x in os.listdir('..') if 'astraios' in x and x not in os.getcwd()]",
    "kernel_log": "open('/dev/kmsg').read(1)",
    "disk": "open('/dev/vda', 'rb').read(1)",
    "chroot": "os.chroot('.')",
}

FORBIDDEN_CALLS = {
    "tcp_connect": "socket.create_connection(('127.0.0.1', TCP), 1)",
    "tcp_listen": "socket.create_server(('127.0.0.1', 0))",
    "udp_send": "socket.socket(2, 2).sendto(b'x', ('127.0.0.1', UDP))",
    "raw_socket": "socket.socket(2, 3, 1)",
    "netlink_socket": "socket.socket(16, 3, 0)",
    "unix_connect": "socket.socket(1, 1).connect('UNIX')",
    "abstract_send": "socket.socket(1, 2).sendto(b'x', b'\\0ABSTRACT')",
    "pair_to_abstract": "socket.socketpair(1, 2)[0].sendto(b'x', b'\\0ABSTRACT')",
    "stream_pair_to_abstract": "socket.socketpair(1, 1)[0].sendto(b'x', b'\\0ABSTRACT')",
    "fork": "os.fork()",
    "spawn": "subprocess.run(['/bin/true'], check=True)",
    "posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "exec": "os.execv(sys.executable, [sys.executable, '-c', ''])",
    "kill_parent": "os.kill(os.getppid(), 9)",
    "kill_parent_politely": "os.kill(os.getppid(), 0)",
    "kill_everybody": "os.kill(-1, 9)",
    "kill_group": "os.killpg(0, 0)",
    "kill_victim": "os.kill(VICTIM, 9)",
    "kill_host": "os.kill(HOST, 0)",
    "pidfd": "os.pidfd_open(os.getppid())",
    "queue_signal": "libc.syscall(129, os.getppid(), 0, ctypes.create_string_buffer(128)) + 1 or fail()",
    "tkill": "libc.syscall(200, os.getppid(), 9) + 1 or fail()",
    "signal_through_pipe": "fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())",
    "limits_of_parent": "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "higher_limit": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "become_root": "os.setuid(0)",
    "chmod": "os.chmod(os.getcwd(), 0)",
    "chown": "os.chown(os.getcwd(), 0, 0)",
    "write_canary": "open('CANARY_FILE', 'w').write('x')",
    "truncate_canary": "os.truncate('CANARY_FILE', 0)",
    "open_truncating": "os.open('CANARY_FILE', os.O_RDONLY | os.O_TRUNC)",
    "unlink_canary": "os.unlink('CANARY_FILE')",
    "rename_canary": "os.rename('CANARY_FILE', 'mine')",
    "chmod_canary": "os.chmod('CANARY_FILE', 0)",
    "touch_canary": "os.utime('CANARY_FILE')",
    "write_library": "open(os.__file__, 'a')",
    "write_root": "open('/MARK', 'w')",
    "write_tmp": "open('/tmp/MARK', 'w')",
    "write_shared_memory": "open('/dev/shm/MARK', 'w')",
    "write_above": "open('../MARK', 'w')",
    "remove_own_folder": "os.rmdir(os.getcwd())",
    "rename_own_folder": "os.rename(os.getcwd(), os.getcwd() + 'x')",
    "device": "os.mknod('device', 0o60600, os.makedev(254, 0))",
    "mount": "libc.mount(b'none', b'.', b'tmpfs', 0, None) + 1 or fail()",
    "unshare": "libc.unshare(0x10000000) + 1 or fail()",
    "ptrace": "libc.ptrace(16, os.getppid(), 0, 0) + 1 or fail()",
    "memory_of_parent": "libc.process_vm_readv(os.getppid(), 0, 0, 0, 0, 0) + 1 or fail()",
    "keyring": "libc.syscall(250, 0, -3, 1) + 1 or fail()",
    "bpf": "libc.syscall(321, 0, ctypes.create_string_buffer(128), 128) + 1 or fail()",
    "io_uring": "libc.syscall(425, 1, ctypes.create_string_buffer(128)) + 1 or fail()",
    "32_bit_call": "libc.syscall(0x40000000 | 41, 2, 1, 0) + 1 or fail()",
    "raw_open": "libc.open(b'CANARY_FILE', 1) + 1 or fail()",
    "raw_write": "libc.write(os.open('CANARY_FILE', 2), b'x', 1) - 1 and fail()",
    "raw_fork": "libc.syscall(57) + 1 or fail()",
    "raw_clone3": "libc.syscall(435, ctypes.create_string_buffer(struct.pack('11Q', "
    "*[0] * 4, 17, *[0] * 6)), 88) + 1 or fail()",
    "shared_memory": "libc.shmget(0, 4096, 0o1600) + 1 or fail()",
    "message_queue": "libc.msgget(77, 0o1600) + 1 or fail()",
    "memory_file": "os.memfd_create('x')",
    "daemon": "os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); time.sleep(100)",
}

_PREAMBLE = """
import ctypes, fcntl, os, resource, socket, struct, subprocess, sys, time
libc = ctypes.CDLL(None)
def fail(): raise OSError
got = None
"""
_READ = "try:\n    got = {}\nexcept (OSError, AttributeError):\n    pass\n"
_CALL = "try:\n    {}\n    got = True\nexcept (OSError, ValueError, AttributeError):\n    pass\n"


def make_attack(name):
    """Source of an attack: reads hold something, calls return, only if they got through."""
    if name in FORBIDDEN_READS:
        return _PREAMBLE + _READ.format(FORBIDDEN_READS[name])
    return _PREAMBLE + _CALL.format(FORBIDDEN_CALLS[name].replace("; ", "\n    "))


SUCCESS = "assert got"
