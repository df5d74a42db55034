package astraios.sandbox;

import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.Map;

/** One program: compiled, run in a class loader and a thread group of its own, and judged. */
final class Trial {
    /** What came of it: a letter, a message, and whether nothing of it can be left in this machine. */
    record Result(char letter, String message, boolean isClean) {}

    private final ProgramCompiler compiler;
    private volatile Throwable failure;
    // Set as the last thing after the test's return: however else its thread ends, it has not passed.
    private volatile boolean isFinished;

    Trial(ProgramCompiler compiler) {
        this.compiler = compiler;
    }

    Result run(String source, String test) {
        boolean isClean = false;
        try {
            ProgramCompiler.Compiled compiled = compiler.compile(source, test);
            isClean = !compiled.hidesErrors() && ClassCheck.leavesNothingBehind(compiled.classes());
            int before = countThreads();
            replaceStreams();
            execute(compiled.classes());
            isClean &= countThreads() == before;
        } catch (ProgramCompiler.Rejected rejected) {
            return new Result('F', rejected.getMessage(), rejected.isClean);
        } catch (Throwable error) {
            failure = error;
        }
        if (failure == null) {
            return isFinished ? new Result('P', "", isClean) : new Result('F', "the thread of main was ended", false);
        }
        // Any other error, a full stack or heap above all, may have left a class of the platform half initialised.
        isClean &= failure instanceof Exception || failure instanceof AssertionError;
        return new Result(failure instanceof OutOfMemoryError ? 'M' : 'F', describe(failure), isClean);
    }

    private void execute(Map<String, byte[]> classes) throws InterruptedException {
        ThreadGroup group = new ThreadGroup("program");
        Thread main = new Thread(group, () -> callMain(classes), "main");
        main.start();
        main.join();
        // As a machine of its own would: not over before every thread but daemons has ended.
        while (failure == null && joinOne(group)) {
            Thread.onSpinWait();
        }
    }

    private static boolean joinOne(ThreadGroup group) throws InterruptedException {
        Thread[] threads = new Thread[group.activeCount() + 8];
        int n = group.enumerate(threads);
        for (int i = 0; i < n; i++) {
            if (!threads[i].isDaemon()) {
                threads[i].join();
                return true;
            }
        }
        return false;
    }

    private void callMain(Map<String, byte[]> classes) {
        try {
            Class<?> type = new ProgramLoader(classes).loadClass("Main");
            Thread.currentThread().setContextClassLoader(type.getClassLoader());
            Method main = type.getMethod("main", String[].class);
            main.setAccessible(true);
            main.invoke(null, (Object) new String[0]);
            isFinished = true;
        } catch (InvocationTargetException wrapped) {
            failure = wrapped.getCause();
        } catch (Throwable error) {
            failure = error;
        }
    }

    private static void replaceStreams() {
        System.setIn(InputStream.nullInputStream());
        System.setOut(new PrintStream(OutputStream.nullOutputStream()));
        System.setErr(new PrintStream(OutputStream.nullOutputStream()));
    }

    private static int countThreads() {
        ThreadGroup root = Thread.currentThread().getThreadGroup();
        while (root.getParent() != null) {
            root = root.getParent();
        }
        return root.activeCount();
    }

    private static String describe(Throwable error) {
        String name = error.getClass().getName();
        // What an exception of the program's making says of itself is code of the program: it is not asked.
        if (error.getClass().getClassLoader() != null) {
            return name;
        }
        try {
            String place = "";
            for (StackTraceElement element : error.getStackTrace()) {
                if ("Main.java".equals(element.getFileName())) {
                    String part = element.getClassName().matches("Main(\\$.*)?") ? "test" : "program";
                    place = " (" + part + ", line " + element.getLineNumber() + ")";
                    break;
                }
            }
            return name + (error.getMessage() == null ? "" : ": " + error.getMessage()) + place;
        } catch (Throwable exhausted) {
            return name;
        }
    }
}
