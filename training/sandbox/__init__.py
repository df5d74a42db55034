"""Runs programs that a model wrote, and that nobody has read: hostile until proven otherwise.

`training.sandbox.pool.Sandbox` takes `training.sandbox.programs.Program` values and gives a `Verdict` for each. Nothing
else in the project executes such programs. `docs/sandbox.md` says the same as here in more words.

Threat model
------------
The program may be written by an adversary who knows this code. It runs with the powers of an unprivileged process that
may use threads, in a folder of its own. What it must not be able to do, and what holds it:

* reach any network, this machine's sockets included: no call that makes or addresses a socket is allowed (seccomp), in
  an empty network name space (bubblewrap);
* read anything but the interpreter's files, or write anything but its folder: a file system of its own (bubblewrap) or
  Landlock, and no call that changes attributes of files;
* see, signal or trace another process, or start one: no call that does so but to itself, a name space of processes
  (bubblewrap), a user of its own (where root starts it), no `/proc`;
* use more processor time, clock time, memory, disk, files or threads than its limits: rlimits, and a watching worker;
* leave anything behind: one process that cannot fork, killed and collected; a folder that is emptied after it, or
  thrown away with its worker;
* count as passed without reaching the end of its test: the harness then sends a secret that was drawn for this program
  alone and that no file, descriptor or environment holds.

What is outside the guarantee: a program shares its interpreter with its test. Objects that lie in ``==``, names and
functions that the test uses and the program replaced, and code that looks through frames, the garbage collector or
memory for the harness's variables can make a wrong Python program pass. In Java, lying ``equals`` and classes under
names that the test uses can; the harness is a module that reflection cannot enter, and the secret is not in the heap;
native code could find it. And the kernel is trusted: a hole in it is a hole here.
"""
