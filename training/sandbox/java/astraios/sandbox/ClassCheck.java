package astraios.sandbox;

import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * Whether the classes of a program name only what cannot outlive it.
 *
 * <p>Programs share a machine one after the other. Threads, finalizers, hooks, reflection, files, system properties and the
 * like could reach from one into the next; a program that so much as names them costs the machine, whatever it does with
 * them. The list says what is harmless, so that what is not on it, and what later versions add, is not.
 */
final class ClassCheck {
    private static final Pattern CLASSES = Pattern.compile(String.join("|",
            "java/lang/(Object|String|StringBuilder|StringBuffer|Math|StrictMath|Number|Integer|Long|Double|Float|Short",
            "Byte|Character|Boolean|Void|CharSequence|Comparable|Iterable|AutoCloseable|Cloneable|Enum|Record|Override",
            "FunctionalInterface|SafeVarargs|SuppressWarnings|Deprecated|Class|System|[A-Za-z]*Exception",
            // Of errors only those that cannot stand for the stack's or the memory's end, which may have stopped the
            // platform in the middle of something: the last two are the compiler's own.
            "AssertionError|IncompatibleClassChangeError|NoSuchFieldError)(\\$.*)?",
            "java/lang/invoke/(MethodHandles\\$Lookup|MethodHandles|LambdaMetafactory|StringConcatFactory|CallSite",
            "MethodType|MethodHandle|TypeDescriptor)",
            "java/lang/runtime/ObjectMethods",
            "java/util/(?!Timer|ServiceLoader|ResourceBundle|[A-Za-z]*ResourceBundle|concurrent/|logging/|prefs/|zip/|jar/)"
                    + "[A-Za-z$]+(\\$.*)?",
            "java/util/(function|regex|stream(?!/StreamSupport))/.*",
            "java/util/concurrent/(atomic/.*|ConcurrentHashMap|ConcurrentMap|ThreadLocalRandom|TimeUnit)(\\$.*)?",
            "java/(math|text|time)/(?!spi/|zone/ZoneRulesProvider).*",
            "java/nio/charset/(StandardCharsets|Charset)",
            "java/security/(MessageDigest|NoSuchAlgorithmException)",
            "java/io/(PrintStream|InputStream|Serializable|[A-Za-z]*Exception|ByteArray(In|Out)putStream|String(Reader|Writer))"));

    // Members of classes above that reach further than the class.
    private static final Set<String> SYSTEM =
            Set.of("in", "out", "err", "arraycopy", "currentTimeMillis", "nanoTime", "identityHashCode", "lineSeparator");
    private static final Set<String> CLASS =
            Set.of("getName", "getSimpleName", "desiredAssertionStatus", "isInstance", "equals", "hashCode", "toString");
    private static final Set<String> LINKAGE = Set.of("metafactory", "altMetafactory", "makeConcatWithConstants",
            "makeConcat", "bootstrap");
    private static final Pattern SHARED = Pattern.compile("parallel.*|setDefault|setUncaught.*");
    // Constructors that open files, which stay open until they are collected.
    private static final Set<String> OPENING = Set.of("java/io/PrintStream", "java/util/Formatter");
    private static final Pattern TYPE = Pattern.compile("L([^;]+);");

    private ClassCheck() {}

    static boolean leavesNothingBehind(Map<String, byte[]> classes) {
        for (byte[] bytes : classes.values()) {
            try {
                if (!new ConstantPool(bytes).isHarmless(classes.keySet())) {
                    return false;
                }
            } catch (IOException | RuntimeException unreadable) {
                return false;
            }
        }
        return true;
    }

    /** The constants of one class file: all that it names. JVM specification, section 4.4. */
    private static final class ConstantPool {
        private final int[] tags;
        private final int[] first;
        private final int[] second;
        private final String[] texts;

        ConstantPool(byte[] bytes) throws IOException {
            DataInputStream in = new DataInputStream(new ByteArrayInputStream(bytes));
            in.skipBytes(8);
            int n = in.readUnsignedShort();
            tags = new int[n];
            first = new int[n];
            second = new int[n];
            texts = new String[n];
            for (int i = 1; i < n; i++) {
                tags[i] = in.readUnsignedByte();
                switch (tags[i]) {
                    case 1 -> texts[i] = in.readUTF();
                    case 3, 4 -> in.skipBytes(4);
                    case 5, 6 -> {
                        in.skipBytes(8);
                        i++;
                    }
                    case 7, 8, 16, 19, 20 -> first[i] = in.readUnsignedShort();
                    case 9, 10, 11, 12, 17, 18 -> {
                        first[i] = in.readUnsignedShort();
                        second[i] = in.readUnsignedShort();
                    }
                    case 15 -> {
                        in.skipBytes(1);
                        first[i] = in.readUnsignedShort();
                    }
                    default -> throw new IOException("unknown constant");
                }
            }
        }

        boolean isHarmless(Set<String> own) {
            for (int i = 1; i < tags.length; i++) {
                boolean isMember = tags[i] >= 9 && tags[i] <= 11;
                if ((tags[i] == 7 && !isKnown(texts[first[i]], own)) || (isMember && !isHarmlessMember(i, own))) {
                    return false;
                }
                // Runs on a thread of the machine, whenever that likes.
                if ("finalize".equals(texts[i])) {
                    return false;
                }
            }
            return true;
        }

        private boolean isHarmlessMember(int i, Set<String> own) {
            String owner = texts[first[first[i]]];
            String name = texts[first[second[i]]];
            String descriptor = texts[second[second[i]]];
            if (OPENING.contains(owner) && name.equals("<init>") && descriptor.startsWith("(Ljava/lang/String;")) {
                return false;
            }
            // What a member takes or gives need not be named anywhere else.
            if (!TYPE.matcher(descriptor).results().allMatch(type -> isKnown(type.group(1), own))) {
                return false;
            }
            if (owner.startsWith("java/lang/invoke/") || owner.startsWith("java/lang/runtime/")) {
                return LINKAGE.contains(name);
            }
            return switch (owner) {
                case "java/lang/System" -> SYSTEM.contains(name);
                case "java/lang/Class" -> CLASS.contains(name);
                default -> !SHARED.matcher(name).matches();
            };
        }

        private static boolean isKnown(String name, Set<String> own) {
            String element = name.startsWith("[") ? name.replaceFirst("^\\[+", "") : name;
            if (name.startsWith("[")) {
                // An array: of a primitive type, or of Lname;
                if (!element.startsWith("L")) {
                    return true;
                }
                element = element.substring(1, element.length() - 1);
            }
            return own.contains(element.replace('/', '.')) || CLASSES.matcher(element).matches();
        }
    }
}
