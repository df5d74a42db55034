"""Attacks in Java: the body of a method `attack`, under the statuses that are right for it beside a time limit.

`attack` returns true only if the attack succeeded, and the test holds only then: a verdict of `passed` is an escape.
The forbidden ones go together into one program, which ends by saying which of them succeeded.
"""

FORBIDDEN = {
    "read_passwd": 'return Files.readString(Path.of("/etc/passwd")).length() > 0;',
    "read_canary": 'return new java.io.FileReader("CANARY_FILE").read() >= 0;',
    "read_environment": 'return new java.io.FileInputStream("/proc/1/environ").read() >= 0;',
    "read_memory": 'return new java.io.RandomAccessFile("/proc/self/mem", "rw").read() >= 0;',
    "list_outside": 'return new java.io.File("OUTSIDE").list() != null;',
    "list_root": 'return new java.io.File("/root").list() != null && new java.io.File("/root/.ssh").list() != null;',
    "link": 'return Files.readString(Files.createSymbolicLink(Path.of("link"), Path.of("CANARY_FILE"))).length() > 0;',
    "write_canary": 'new java.io.FileWriter("CANARY_FILE").close(); return true;',
    "delete_canary": 'return new java.io.File("CANARY_FILE").delete();',
    "write_outside": 'return new java.io.File("/tmp/MARK").createNewFile();',
    "write_above": 'return new java.io.File("../MARK").createNewFile();',
    "delete_own_folder": 'return new java.io.File(new java.io.File("").getAbsolutePath()).delete();',
    "chmod_own_folder": 'return new java.io.File(new java.io.File("").getAbsolutePath()).setWritable(false);',
    "tcp": 'new java.net.Socket("127.0.0.1", TCP); return true;',
    "tcp_listen": "new java.net.ServerSocket(0); return true;",
    "udp": "new java.net.DatagramSocket(); return true;",
    "unix": ('java.nio.channels.SocketChannel.open(java.net.UnixDomainSocketAddress.of("UNIX")); return true;'),
    "http": 'new java.net.URL("http://127.0.0.1:TCP/").openStream(); return true;',
    "process": 'new ProcessBuilder("/bin/true").start(); return true;',
    "runtime_exec": 'Runtime.getRuntime().exec("/bin/sh -c true"); return true;',
    "signal_victim": "return ProcessHandle.of(VICTIMl).map(ProcessHandle::destroyForcibly).orElse(false);",
    "signal_parent": "return ProcessHandle.current().parent().map(ProcessHandle::destroyForcibly).orElse(false);",
    "environment": 'return System.getenv().toString().contains("CANARY");',
    "harness_main": (
        'Class.forName("astraios.sandbox.Runner").getMethod("main", '
        "String[].class).invoke(null, (Object) null); return true;"
    ),
    "harness_by_loader": (
        'Class<?> c = ClassLoader.getSystemClassLoader().loadClass("astraios.sandbox.Trial");'
        "c.getDeclaredFields()[0].setAccessible(true); return true;"
    ),
    "harness_answers": (
        'Class<?> c = ClassLoader.getSystemClassLoader().loadClass("astraios.sandbox.Runner");'
        'var m = c.getDeclaredMethod("bytes", String.class); m.setAccessible(true); m.invoke(null, ""); return true;'
    ),
    "unsafe_memory": 'Class.forName("sun.misc.Unsafe").getDeclaredField("theUnsafe").setAccessible(true); return true;',
    "internals": 'var f = Integer.class.getDeclaredField("value"); f.setAccessible(true); f.set(1, 2); return true;',
    "attach": 'Class.forName("com.sun.tools.attach.VirtualMachine"); return true;',
    "native_library": 'System.load("/lib/x86_64-linux-gnu/libc.so.6"); return false;',
}

EXITS_AND_BOMBS = {
    "timeout": {
        "endless_loop": "int x = 0; while (x >= 0 || x < 0) x++; return true;",
        "sleep": "Thread.sleep(1000000); return true;",
        "deadlock": (
            "Object a = new Object(); synchronized (a) { Thread t = new Thread(() -> { synchronized (a) { } }); "
            "t.start(); t.join(); } return true;"
        ),
        "wait": "Object a = new Object(); synchronized (a) { a.wait(); } return true;",
        "output": 'while (true) System.out.println("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");',
        "class_initialiser": "return Endless.x == 1;",
    },
    "failed": {
        "exit": "System.exit(0); return true;",
        "halt": "Runtime.getRuntime().halt(0); return true;",
        "exit_in_thread": "new Thread(() -> System.exit(0)).start(); Thread.sleep(1000000); return true;",
        "exit_in_hook": (
            "Runtime.getRuntime().addShutdownHook(new Thread(() -> Runtime.getRuntime().halt(0))); System.exit(1); "
            "return true;"
        ),
        "forged_answer": (
            'var out = out(); out.writeInt(34); out.writeBytes("P+"); out.write(new byte[32]); out.flush(); '
            "Thread.sleep(1000000); return true;"
        ),
        "forged_long_answer": "var out = out(); while (true) out.writeInt(-1);",
        "stolen_request": "out().write(new FileInputStream(FileDescriptor.in).read()); return true;",
        "thrown": "throw new ThreadDeath();",
        "hostile_message": "throw new Hostile();",
        "stopped_machine": (
            "for (Thread t : Thread.getAllStackTraces().keySet()) if (t != Thread.currentThread()) t.interrupt(); "
            "return false;"
        ),
        "threads_that_never_end": (
            "for (int i = 0; i < 8; i++) { Thread t = new Thread(() -> { while (true) { } }); t.setDaemon(true); "
            "t.start(); }return false;"
        ),
        "recursion": "return attack();",
        "raw_output": "var out = out(); while (true) out.write(new byte[65536]);",
        "many_files": 'for (int i = 0; ; i++) new java.io.File("f" + i).createNewFile();',
        "disk": 'for (int i = 0; ; i++) try (var f = new FileOutputStream("f" + i)) { f.write(new byte[1 << 22]); }',
        "finalizer": "for (int i = 0; i < 100; i++) new Stubborn(); System.gc(); Thread.sleep(100); return false;",
    },
    "memory": {
        "memory": "List<byte[]> x = new ArrayList<>(); while (true) x.add(new byte[1 << 24]);",
        "direct": "var x = new ArrayList<Object>(); while (true) x.add(java.nio.ByteBuffer.allocateDirect(1 << 24));",
        "caught": "var x = new ArrayList<byte[]>(); while (true) try { x.add(new byte[1 << 24]); } catch (Error e) { }",
        "strings": 'String s = "x"; while (true) s = s + s;',
    },
    "failed memory": {
        "threads": (
            "while (true) new Thread(() -> { while (true) { try { Thread.sleep(100000); "
            "} catch (Exception e) { } } }).start();"
        )
    },
}

_PROGRAM = """
import java.io.*;
import java.nio.file.*;
import java.util.*;

class Solution {
    static DataOutputStream out() { return new DataOutputStream(new FileOutputStream(FileDescriptor.out)); }
    boolean attack() throws Throwable {
        %s
    }
}
class Hostile extends RuntimeException {
    @Override public String getMessage() { while (true) { } }
    @Override public StackTraceElement[] getStackTrace() { while (true) { } }
    @Override public String toString() { while (true) { } }
}
class Stubborn {
    @Override protected void finalize() { while (true) { } }
}
class Endless {
    static int x = 0;
    static { while (x == 0) { } }
}
"""

TEST = """
public class Main {
    public static void main(String[] arguments) throws Throwable {
        if (!new Solution().attack()) throw new AssertionError("not passed");
    }
}
"""


def make_program(body):
    return _PROGRAM.replace("%s", body)


def make_forbidden():
    """Source of all forbidden attacks, one after the other: a machine for each would take a second."""
    methods = [f"static boolean {name}() throws Throwable {{ {body} }}" for name, body in FORBIDDEN.items()]
    calls = [f'try {{ if ({name}()) done += " {name}"; }} catch (Throwable t) {{ n++; }}' for name in FORBIDDEN]
    body = 'int n = 0; String done = "";' + "\n".join(calls)
    body += '\nthrow new IllegalStateException("succeeded:" + done + "; refused: " + n);'
    return make_program(body).replace("class Solution {", "\n".join(["class Solution {", *methods]))
