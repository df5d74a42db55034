package astraios.sandbox;

import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import javax.tools.Diagnostic;
import javax.tools.DiagnosticCollector;
import javax.tools.FileObject;
import javax.tools.ForwardingJavaFileManager;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileManager;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;

/** Compiles a program from memory to memory; what it read of the platform's classes is kept for the next one. */
final class ProgramCompiler {
    /** A program that is no Java. */
    static final class Rejected extends Exception {
        private static final long serialVersionUID = 1L;

        Rejected(String message) {
            super(message);
        }
    }

    // No annotation processors, which would be code that runs while compiling.
    private static final List<String> OPTIONS = List.of("-proc:none", "-nowarn", "-Xlint:none", "-implicit:none");

    private final JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
    private final StandardJavaFileManager platform =
            compiler.getStandardFileManager(null, Locale.ROOT, StandardCharsets.UTF_8);

    Map<String, byte[]> compile(String text) throws Rejected {
        DiagnosticCollector<JavaFileObject> diagnostics = new DiagnosticCollector<>();
        Memory memory = new Memory(platform);
        Boolean isCompiled;
        try {
            isCompiled = compiler.getTask(null, memory, diagnostics, OPTIONS, null, List.of(new Source(text))).call();
        } catch (StackOverflowError | RuntimeException error) {
            throw new Rejected("the compiler gave up: " + error.getClass().getName());
        }
        if (!isCompiled) {
            throw new Rejected("does not compile" + firstError(diagnostics));
        }
        Map<String, byte[]> classes = new HashMap<>();
        memory.outputs.forEach((name, bytes) -> classes.put(name, bytes.toByteArray()));
        return classes;
    }

    private static String firstError(DiagnosticCollector<JavaFileObject> diagnostics) {
        for (Diagnostic<?> diagnostic : diagnostics.getDiagnostics()) {
            if (diagnostic.getKind() == Diagnostic.Kind.ERROR) {
                return " (line " + diagnostic.getLineNumber() + "): " + diagnostic.getMessage(Locale.ROOT);
            }
        }
        return "";
    }

    private static final class Source extends SimpleJavaFileObject {
        private final String text;

        Source(String text) {
            super(URI.create("string:///Main.java"), Kind.SOURCE);
            this.text = text;
        }

        @Override
        public CharSequence getCharContent(boolean ignoreEncodingErrors) {
            return text;
        }
    }

    private static final class Memory extends ForwardingJavaFileManager<StandardJavaFileManager> {
        private final Map<String, ByteArrayOutputStream> outputs = new HashMap<>();

        Memory(StandardJavaFileManager platform) {
            super(platform);
        }

        @Override
        public JavaFileObject getJavaFileForOutput(
                JavaFileManager.Location location, String name, JavaFileObject.Kind kind, FileObject sibling) {
            return new SimpleJavaFileObject(URI.create("memory:///" + name.replace('.', '/') + kind.extension), kind) {
                @Override
                public OutputStream openOutputStream() {
                    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
                    outputs.put(name, bytes);
                    return bytes;
                }
            };
        }
    }
}
