package astraios.sandbox;

import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;

/**
 * Takes programs from standard input, one at a time, and answers on standard output.
 *
 * <p>A request is the lengths of a program and of its test in four bytes each, a secret, and the two texts. An answer is a
 * length, a letter (P passed, F failed, M out of memory), '+' or '-' (whether this machine may run another program), and
 * the secret or a message. The secret stays outside the heap, whose contents a program can ask for (management beans write
 * dumps), from its arrival to its departure.
 */
final class Runner {
    private static final int SECRET_BYTES = 32;
    private static final int MAX_MESSAGE = 300;
    private static final String WARM_UP = "import java.util.*;\nimport java.util.stream.*;\n"
            + "class Solution { List<Integer> f(List<Integer> x) { Map<String, Integer> m = new HashMap<>();\n"
            + "for (int i : x) m.merge(\"k\" + i, i, Integer::sum);\n"
            + "return x.stream().map(y -> y + 1).sorted().collect(Collectors.toList()); } }\n";
    private static final String WARM_UP_TEST = "public class Main { public static void main(String[] a) {\n"
            + "if (!new Solution().f(Arrays.asList(2, 1)).equals(Arrays.asList(2, 3))) throw new AssertionError(); } }\n";

    private final FileChannel requests = new FileInputStream(FileDescriptor.in).getChannel();
    private final FileChannel answers = new FileOutputStream(FileDescriptor.out).getChannel();
    private final ByteBuffer secret = ByteBuffer.allocateDirect(SECRET_BYTES);
    private final ByteBuffer transfer = ByteBuffer.allocateDirect(8192);
    private final ProgramCompiler compiler = new ProgramCompiler();

    public static void main(String[] arguments) throws IOException {
        new Runner().serve();
    }

    private void serve() throws IOException {
        Trial.Result warm = new Trial(compiler).run(WARM_UP, WARM_UP_TEST);
        answer(warm.letter() == 'P' ? 'R' : warm.letter(), true, message(warm));
        while (true) {
            int sourceLength;
            int testLength;
            try {
                fill(transfer, 8);
                sourceLength = transfer.getInt();
                testLength = transfer.getInt();
            } catch (EOFException end) {
                return;
            }
            fill(secret, SECRET_BYTES);
            String source = readText(sourceLength);
            Trial.Result result = new Trial(compiler).run(source, readText(testLength));
            // A program may have asked this thread to stop, which would close the channels.
            Thread.interrupted();
            answer(result.letter(), result.isClean(), result.letter() == 'P' ? secret : message(result));
        }
    }

    private void answer(char letter, boolean isClean, ByteBuffer content) throws IOException {
        transfer.clear().putInt(2 + content.remaining()).put((byte) letter).put((byte) (isClean ? '+' : '-')).put(content);
        transfer.flip();
        while (transfer.hasRemaining()) {
            answers.write(transfer);
        }
    }

    private String readText(int length) throws IOException {
        byte[] bytes = new byte[length];
        for (int n = 0; n < length; ) {
            int part = Math.min(length - n, transfer.capacity());
            fill(transfer, part);
            transfer.get(bytes, n, part);
            n += part;
        }
        return new String(bytes, StandardCharsets.UTF_8);
    }

    private void fill(ByteBuffer buffer, int length) throws IOException {
        buffer.clear().limit(length);
        while (buffer.hasRemaining()) {
            if (requests.read(buffer) < 0) {
                throw new EOFException();
            }
        }
        buffer.flip();
    }

    private static ByteBuffer message(Trial.Result result) {
        String text = result.message();
        text = text.length() > MAX_MESSAGE ? text.substring(0, MAX_MESSAGE) : text;
        return ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
    }
}
