package astraios.sandbox;

import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;

/**
 * Takes programs from standard input, one at a time, and answers on standard output.
 *
 * <p>A request is a length in four bytes, a secret, and the text of a program. An answer is a length, a letter (P passed,
 * F failed, M out of memory), '+' or '-' (whether this machine may run another program), and the secret or a message. The
 * secret is held by local variables only, which no reflection reaches.
 */
final class Runner {
    private static final int SECRET_BYTES = 32;
    private static final int MAX_MESSAGE = 300;
    private static final String WARM_UP = "import java.util.*;\nimport java.util.stream.*;\n"
            + "class Solution { List<Integer> f(List<Integer> x) { Map<String, Integer> m = new HashMap<>();\n"
            + "for (int i : x) m.merge(\"k\" + i, i, Integer::sum);\n"
            + "return x.stream().map(y -> y + 1).sorted().collect(Collectors.toList()); } }\n"
            + "public class Main { public static void main(String[] a) { Solution s = new Solution();\n"
            + "if (!s.f(Arrays.asList(2, 1)).equals(Arrays.asList(2, 3))) throw new AssertionError(); } }\n";

    private Runner() {}

    public static void main(String[] arguments) throws IOException {
        DataInputStream requests = new DataInputStream(new FileInputStream(FileDescriptor.in));
        DataOutputStream answers =
                new DataOutputStream(new BufferedOutputStream(new FileOutputStream(FileDescriptor.out)));
        ProgramCompiler compiler = new ProgramCompiler();
        Trial.Result warm = new Trial(compiler).run(WARM_UP);
        answer(answers, warm.letter() == 'P' ? 'R' : warm.letter(), true, bytes(warm.message()));
        while (true) {
            int length;
            try {
                length = requests.readInt();
            } catch (EOFException end) {
                return;
            }
            byte[] secret = requests.readNBytes(SECRET_BYTES);
            String text = new String(requests.readNBytes(length - SECRET_BYTES), StandardCharsets.UTF_8);
            Trial.Result result = new Trial(compiler).run(text);
            byte[] content = result.letter() == 'P' ? secret : bytes(result.message());
            answer(answers, result.letter(), result.isClean(), content);
        }
    }

    private static void answer(DataOutputStream answers, char letter, boolean isClean, byte[] content)
            throws IOException {
        answers.writeInt(2 + content.length);
        answers.writeByte(letter);
        answers.writeByte(isClean ? '+' : '-');
        answers.write(content);
        answers.flush();
    }

    private static byte[] bytes(String message) {
        String text = message.length() > MAX_MESSAGE ? message.substring(0, MAX_MESSAGE) : message;
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
