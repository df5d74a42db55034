package astraios.sandbox;

import com.sun.source.tree.CompilationUnitTree;
import com.sun.source.tree.ImportTree;
import com.sun.source.tree.TryTree;
import com.sun.source.util.JavacTask;
import com.sun.source.util.TreeScanner;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
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

/**
 * Compiles a program and its test from memory to memory; what it read of the platform's classes is kept for the next one.
 *
 * <p>They are two files, so that nothing in the one can keep the compiler from reading the other; the test is given the
 * imports of the program, which it was written for.
 */
final class ProgramCompiler {
    /** Class files by name, and whether the program has clauses that could swallow any error there is. */
    record Compiled(Map<String, byte[]> classes, boolean hidesErrors) {}

    /** A program that is no Java; a compiler that gave up may have left its mark. */
    static final class Rejected extends Exception {
        private static final long serialVersionUID = 1L;
        final boolean isClean;

        Rejected(String message, boolean isClean) {
            super(message);
            this.isClean = isClean;
        }
    }

    // No annotation processors, which would be code that runs while compiling.
    private static final List<String> OPTIONS = List.of("-proc:none", "-nowarn", "-Xlint:none", "-implicit:none");

    private final JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
    private final StandardJavaFileManager platform =
            compiler.getStandardFileManager(null, Locale.ROOT, StandardCharsets.UTF_8);

    Compiled compile(String source, String test) throws Rejected {
        DiagnosticCollector<JavaFileObject> diagnostics = new DiagnosticCollector<>();
        Memory memory = new Memory(platform);
        List<Source> files = new ArrayList<>(List.of(new Source("program", source)));
        Outline outline = new Outline();
        Boolean isCompiled;
        try {
            for (CompilationUnitTree unit : makeTask(memory, new DiagnosticCollector<>(), files).parse()) {
                outline.scan(unit, null);
            }
            if (!test.isBlank()) {
                files.add(new Source("test", outline.imports + test));
            }
            isCompiled = makeTask(memory, diagnostics, files).call();
        } catch (StackOverflowError | RuntimeException | IOException error) {
            throw new Rejected("the compiler gave up: " + error.getClass().getName(), false);
        }
        if (!isCompiled) {
            throw new Rejected("does not compile" + firstError(diagnostics), true);
        }
        Map<String, byte[]> classes = new HashMap<>();
        memory.outputs.forEach((name, bytes) -> classes.put(name, bytes.toByteArray()));
        return new Compiled(classes, outline.hidesErrors);
    }

    private JavacTask makeTask(Memory memory, DiagnosticCollector<JavaFileObject> diagnostics, List<Source> files) {
        return (JavacTask) compiler.getTask(null, memory, diagnostics, OPTIONS, null, files);
    }

    private static String firstError(DiagnosticCollector<JavaFileObject> diagnostics) {
        for (Diagnostic<?> diagnostic : diagnostics.getDiagnostics()) {
            if (diagnostic.getKind() == Diagnostic.Kind.ERROR) {
                String file = diagnostic.getSource() instanceof Source source ? source.part + ", " : "";
                return " (" + file + "line " + diagnostic.getLineNumber() + "): " + diagnostic.getMessage(Locale.ROOT);
            }
        }
        return "";
    }

    /** What is read of a program before it is compiled. */
    private static final class Outline extends TreeScanner<Void, Void> {
        // On one line, so that lines of the test keep their numbers.
        private String imports = "";
        private boolean hidesErrors;

        @Override
        public Void visitImport(ImportTree node, Void unused) {
            imports += node.toString().strip() + " ";
            return null;
        }

        @Override
        public Void visitTry(TryTree node, Void unused) {
            hidesErrors |= node.getFinallyBlock() != null || !node.getResources().isEmpty();
            return super.visitTry(node, null);
        }
    }

    private static final class Source extends SimpleJavaFileObject {
        private final String part;
        private final String text;

        Source(String part, String text) {
            // One name for both: a public class other than Main is an error, as in a single file.
            super(URI.create("string:///" + part + "/Main.java"), Kind.SOURCE);
            this.part = part;
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
