#!/usr/bin/python3
"""terminal.py [STEP...] -- COMMAND...: run COMMAND on a pseudo-terminal of its own and act as the person before it.

Steps, in order; each must come true within the deadline, or everything ends with status 124:
  size=ROWSxCOLS   set the window size (a resize, once the command runs)
  expect=TEXT      wait until TEXT has been printed after the previous match
  send=TEXT        type TEXT (\\n, \\r, \\x10 and the like are understood)
  wait             wait until the command ends (done at the end in any case)
Prints everything that the command printed; the exit status is the command's (128+N when killed by signal N).
"""
import codecs
import errno
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

DEADLINE = 30  # seconds for each step


class Terminal:
    def __init__(self, argv, size):
        self.seen = b""
        self.matched = 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
                os.execvp(argv[0], argv)
            finally:
                os._exit(127)

    def resize(self, size):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))

    def read_some(self, timeout):
        """False at the end of the output."""
        if not select.select([self.fd], [], [], timeout)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            data = b""
        self.seen += data
        return bool(data)

    def expect(self, text):
        end = time.monotonic() + DEADLINE
        while True:
            at = self.seen.find(text, self.matched)
            if at >= 0:
                self.matched = at + len(text)
                return
            if time.monotonic() > end or not self.read_some(0.2):
                self.fail("never printed: %r" % text)

    def wait(self):
        end = time.monotonic() + DEADLINE
        while self.read_some(0.2):
            if time.monotonic() > end:
                self.fail("still running")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def fail(self, why):
        self.show()
        print("terminal.py: " + why, file=sys.stderr)
        os.kill(self.pid, 9)
        sys.exit(124)

    def show(self):
        sys.stdout.buffer.write(self.seen)
        sys.stdout.buffer.flush()


def size_of(word):
    rows, cols = word.split("x")
    return int(rows), int(cols)


def main():
    cut = sys.argv.index("--")
    steps = [s.partition("=") for s in sys.argv[1:cut]]
    size = (24, 80)
    if steps and steps[0][0] == "size":
        size = size_of(steps.pop(0)[2])
    terminal = Terminal(sys.argv[cut + 1:], size)
    for verb, _, value in steps:
        if verb == "size":
            terminal.resize(size_of(value))
        elif verb == "expect":
            terminal.expect(codecs.decode(value, "unicode_escape").encode("latin-1"))
        elif verb == "send":
            os.write(terminal.fd, codecs.decode(value, "unicode_escape").encode("latin-1"))
        elif verb != "wait":
            sys.exit("terminal.py: unknown step " + verb)
    status = terminal.wait()
    terminal.show()
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
