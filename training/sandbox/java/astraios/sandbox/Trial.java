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
    private Throwable failure;

    Trial(ProgramCompiler compiler) {
        this.compiler = compiler;
    }

    Result run(String text) {
        boolean isClean = false;
        try {
            Map<String, byte[]> classes = compiler.compile(text);
            isClean = ClassCheck.leavesNothingBehind(classes);
            int before = countThreads();
            replaceStreams();
            execute(classes);
            isClean &= countThreads() == before;
        } catch (ProgramCompiler.Rejected rejected) {
            return new Result('F', rejected.getMessage(), true);
        } catch (Throwable error) {
            failure = error;
        }
        if (failure == null) {
            return new Result('P', "", isClean);
        }
        boolean isMemory = failure instanceof OutOfMemoryError;
        return new Result(isMemory ? 'M' : 'F', describe(failure), isClean && !isMemory);
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
                    place = " (line " + element.getLineNumber() + ")";
                    break;
                }
            }
            return name + (error.getMessage() == null ? "" : ": " + error.getMessage()) + place;
        } catch (Throwable exhausted) {
            return name;
        }
    }
}
