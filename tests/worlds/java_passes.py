"""Wrong programs in Java that try to count as passed, and programs that try to change what comes after them.

`f` is wrong in every program of `FALSE`, so that none may pass; `LEFT` and `LOOK` are pairs of a program that leaves
something in the machine and one that looks for it.
"""

_STEAL = """
import java.io.*;
import java.lang.management.*;
import java.nio.ByteBuffer;
import java.nio.file.*;
import javax.management.*;

class S {
    static int f(int x) {
        try { dump(); } catch (Throwable error) { }
        try { steal(); } catch (Throwable error) { }
        return 3;
    }
    static final String PATH = new File("dump.hprof").getAbsolutePath();
    static Object invoke(String bean, String name, Object[] arguments, String... types) throws Exception {
        var server = ManagementFactory.getPlatformMBeanServer();
        return server.invoke(new ObjectName("com.sun.management:type=" + bean), name, arguments, types);
    }
    static void dump() throws Throwable { DUMP }
    static void steal() throws Throwable {
        for (File file : new File(".").listFiles()) {
            ByteBuffer all = ByteBuffer.wrap(Files.readAllBytes(file.toPath()));
            byte[] last = null;
            // An array of 32 bytes, none of which is text, in the format of dumps.
            for (int i = 0; i + 50 < all.limit(); i++) {
                if (all.get(i) == 0x23 && all.getInt(i + 13) == 32 && all.get(i + 17) == 8) {
                    byte[] found = new byte[32];
                    all.get(i + 18, found);
                    int high = 0;
                    for (byte b : found) high += b < 0 ? 1 : 0;
                    if (high > 6) last = found;
                }
            }
            if (last == null) continue;
            var out = new DataOutputStream(new FileOutputStream(FileDescriptor.out));
            out.writeInt(34);
            out.writeBytes("P-");
            out.write(last);
            out.flush();
        }
    }
}
"""

_DUMPS = {
    "dump_live": 'invoke("HotSpotDiagnostic", "dumpHeap", new Object[] {PATH, true}, "java.lang.String", "boolean");',
    "dump_all": 'invoke("HotSpotDiagnostic", "dumpHeap", new Object[] {PATH, false}, "java.lang.String", "boolean");',
    "dump_by_proxy": (
        'Class<?> c = Class.forName("com.sun.management.HotSpotDiagnosticMXBean");'
        "Object bean = ManagementFactory.getPlatformMXBean((Class<? extends PlatformManagedObject>) c);"
        'c.getMethod("dumpHeap", String.class, boolean.class).invoke(bean, PATH, true);'
    ),
    "dump_in_thread": (
        'Thread t = new Thread(() -> { try { invoke("HotSpotDiagnostic", "dumpHeap", new Object[] {PATH, true}, '
        '"java.lang.String", "boolean"); } catch (Exception e) { } }); t.start(); t.join();'
    ),
    "dump_by_command": (
        'invoke("DiagnosticCommand", "gcHeapDump", new Object[] {new String[] {PATH}}, "[Ljava.lang.String;");'
    ),
    "dump_when_full": (
        'String[] types = {"java.lang.String", "java.lang.String"};'
        'invoke("HotSpotDiagnostic", "setVMOption", new Object[] {"HeapDumpPath", PATH}, types);'
        'invoke("HotSpotDiagnostic", "setVMOption", new Object[] {"HeapDumpOnOutOfMemoryError", "true"}, types);'
        "try { long[] x = new long[1 << 30]; } catch (OutOfMemoryError error) { }"
    ),
    "stack_by_command": (
        'Object text = invoke("DiagnosticCommand", "threadPrint", new Object[] {new String[] {"-l", "-e"}}, '
        '"[Ljava.lang.String;"); Files.writeString(Path.of("dump.hprof"), text.toString());'
    ),
    "flight_recording": (
        'Class<?> c = Class.forName("jdk.jfr.Recording"); Object r = c.getConstructor().newInstance();'
        'c.getMethod("enable", String.class).invoke(r, "jdk.OldObjectSample"); c.getMethod("start").invoke(r);'
        'System.gc(); c.getMethod("dump", Path.class).invoke(r, Path.of("dump.hprof"));'
    ),
    "fresh_direct_memory": (
        "ByteBuffer b = ByteBuffer.allocateDirect(1 << 22); byte[] x = new byte[1 << 22]; b.get(x);"
        'Files.write(Path.of("dump.hprof"), x);'
    ),
}

_WRONG = "class S { static int f(int x) { return 3; } }\n"
_EMPTY_MAIN = "class Main { public static void main(String[] a) {} }"
_PUBLIC_MAIN = f"public {_EMPTY_MAIN}"

# The test follows, and must be read whatever precedes it.
_LOST_TESTS = {
    "control_z": f"{_WRONG}{_PUBLIC_MAIN}\x1a",
    "control_z_escaped": f"{_WRONG}{_PUBLIC_MAIN}\\u001a",
    "control_z_escaped_twice": f"{_WRONG}{_PUBLIC_MAIN}\\uuu001a",
    "control_z_in_line": f"{_WRONG}{_PUBLIC_MAIN} \x1a class X {{",
    "control_z_in_comment": f"{_WRONG}{_PUBLIC_MAIN} /* \x1a",
    "control_z_in_line_comment": f"{_WRONG}{_PUBLIC_MAIN} // \\u001a",
    "control_z_capital": f"{_WRONG}{_PUBLIC_MAIN}\n\\u001A",
    "comment": f"{_WRONG}{_PUBLIC_MAIN} /* ",
    "comment_escaped": f"{_WRONG}{_PUBLIC_MAIN} \\u002f\\u002a",
    "text_block": f'{_WRONG}{_PUBLIC_MAIN} class X {{ String x = """\n',
    "text_block_in_annotation": f'{_WRONG}{_PUBLIC_MAIN} @Deprecated(since = """\n',
    "own_main": f"{_WRONG}{_EMPTY_MAIN}",
    "own_main_public": f"{_WRONG}{_PUBLIC_MAIN}",
    "own_main_interface": f"{_WRONG}interface Main {{ static void main(String[] a) {{}} }}",
    "own_main_record": f"{_WRONG}record Main() {{ public static void main(String[] a) {{}} }}",
    "own_main_escaped": _WRONG + _EMPTY_MAIN.replace("Main", "M\\u0061in"),
    "in_a_class": f"{_WRONG}{_PUBLIC_MAIN} class X {{",
    "in_a_package": f"package p; {_WRONG}{_PUBLIC_MAIN}",
    "in_a_module": f"{_WRONG}{_PUBLIC_MAIN} module m {{",
}

_STOPPING = """
class S {
    static int f(int x) {
        Thread main = Thread.currentThread();
        Thread[] harness = new Thread[64];
        Thread.currentThread().getThreadGroup().getParent().enumerate(harness);
        if (x == 1) { BODY }
        return 3;
    }
}
"""

# The thread of the test is ended in ways that are no return.
_ENDED_THREADS = {
    "stopped": "main.stop();",
    "stopped_again_and_again": (
        "Thread t = new Thread(() -> { while (main.isAlive()) main.stop(); }); t.start();"
        "try { while (true) { } } finally { throw new RuntimeException(); }"
    ),
    "stopped_later": (
        "Thread t = new Thread(() -> { try { Thread.sleep(50); } catch (Exception e) { } main.stop(); });"
        "t.setDaemon(true); t.start(); while (true) { }"
    ),
    "harness_stopped": "for (Thread t : harness) if (t != null && t != main) t.stop(); throw new RuntimeException();",
    "harness_interrupted": "for (Thread t : harness) if (t != null && t != main) t.interrupt();",
    "exception_without_class": "throw (RuntimeException) null;",
    "exception_in_handler": (
        "Thread.setDefaultUncaughtExceptionHandler((t, e) -> { throw new RuntimeException(); });"
        "Thread.currentThread().setUncaughtExceptionHandler((t, e) -> { }); throw new ThreadDeath();"
    ),
}

FALSE = {name: _STEAL.replace("DUMP", body) for name, body in _DUMPS.items()} | _LOST_TESTS
FALSE |= {name: _STOPPING.replace("BODY", body) for name, body in _ENDED_THREADS.items()}

TEST = """
/* It ends what a program may have begun: \"\"\" */
public class Main {
    public static void main(String[] arguments) {
        if (S.f(1) != 2) throw new AssertionError("wrong");
    }
}
"""


def make_main(body, before="import java.util.*;\n"):
    """A whole program around the body of `main`."""
    return f"{before}public class Main {{ public static void main(String[] a) throws Exception {{ {body} }} }}"


_ZONES = """
import java.time.ZoneId;
import java.time.zone.*;
import java.util.*;
class Z extends ZoneRulesProvider {
    protected Set<String> provideZoneIds() { return Set.of("Evil/Zone"); }
    protected ZoneRules provideRules(String id, boolean c) { return ZoneRules.of(java.time.ZoneOffset.UTC); }
    protected NavigableMap<String, ZoneRules> provideVersions(String id) { return new TreeMap<>(); }
}
"""
# Fills the stack, and asks for a class of the platform that nothing has used yet where it is almost full.
_DEEP = """
import java.util.*;
class D {
    static void go() { try { go(); } FINALLY }
    static void ask() { java.time.chrono.HijrahChronology.INSTANCE.getId(); }
}
"""

_FILES = "import java.util.*;\nclass P extends java.io.PrintStream { P(String n) throws Exception { super(n); } }\n"
_FILES += "interface Maker { java.io.PrintStream make(String n) throws Exception; }\n"
_FILL = 'byte[] x = new byte[1 << 20]; for (int i = 0; i < 5; i++) { String n = "f" + i; var p = NEW;'
_FILL += "for (int k = 0; k < 3; k++) WRITE p.flush(); }"
_STREAMS = {
    "stream": "new java.io.PrintStream(n)",
    "stream_with_charset": 'new java.io.PrintStream(n, "UTF-8")',
    "stream_of_a_subclass": "new P(n)",
    "stream_by_reference": "((Maker) java.io.PrintStream::new).make(n)",
    "formatter": "new Formatter(n)",
    "formatter_with_charset": 'new Formatter(n, "UTF-8")',
}


def _fill(opening):
    write = 'p.format("x".repeat(1 << 20));' if "Formatter" in opening else "p.write(x, 0, x.length);"
    return make_main(_FILL.replace("NEW", opening).replace("WRITE", write), _FILES)


# What a program leaves.
LEFT = {f"files_of_{name}": _fill(opening) for name, opening in _STREAMS.items()} | {
    "zone_provider": make_main("ZoneRulesProvider.registerProvider(new Z());", _ZONES),
    "locale": make_main("Locale.setDefault(Locale.GERMANY);"),
    "zone": make_main('SimpleTimeZone.setDefault(TimeZone.getTimeZone("Asia/Tokyo"));'),
    "streams_closed": make_main("System.out.close(); System.err.close(); System.in.close();"),
    "half_initialised": make_main("D.go();", _DEEP.replace("FINALLY", "finally { ask(); }")),
    "half_initialised_caught": make_main(
        "try { D.go(); } catch (Throwable e) { }",
        _DEEP.replace(
            "FINALLY", "catch (StackOverflowError x) { try { ask(); } catch (StackOverflowError e) { } throw x; }"
        ),
    ),
    "half_initialised_swallowed": make_main(
        "go: do { try { D.go(); } finally { break go; } } while (true);", _DEEP.replace("FINALLY", "finally { ask(); }")
    ),
    "threads_of_the_pool": make_main(
        "var s = List.of(1, 2, 3).spliterator(); java.util.stream.StreamSupport.stream(s, true).forEach(x -> { });"
    ),
    "properties": make_main('System.setProperty("user.language", "x"); System.setProperty("left", "x");'),
}

# Passes only where nothing is left.
LOOK = make_main(
    'if (java.time.ZoneId.getAvailableZoneIds().contains("Evil/Zone")) throw new Error("zone");'
    'if (System.getProperty("left") != null) throw new Error("property");'
    'if (!String.format("%.1f %s", 1.5, new GregorianCalendar().getTimeZone().getID()).equals("1.5 UTC"))'
    ' throw new Error("locale or zone");'
    'System.out.print("x"); if (System.out.checkError()) throw new Error("stream");'
    "java.time.chrono.HijrahChronology.INSTANCE.getId();"
    'for (int i = 0; i < 14; i++) try (var f = new java.io.FileOutputStream("g" + i)) { f.write(new byte[1 << 20]); }'
    'if (Thread.activeCount() != 1) throw new Error("threads");'
    "Thread.sleep(100);"
)
