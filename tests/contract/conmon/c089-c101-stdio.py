#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Console socket, terminal and pipes (C-89 to C-101)."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402


@test('C-89 C-90', 'the console socket is gone once the terminal has arrived', modes=BOTH)
def _(t):
	b = t.bundle('read x < /shared/go', terminal=True)
	b.fifo()
	r = t.create(b)
	tap.same(os.listdir(t.tmp), [], 'TMPDIR')
	b.start()
	b.delete()
	r.end()


@test('C-90 C-65', 'a console connection without exactly one descriptor is a failure that is told', ours='W-6: 2.1.6 just exits')
def _(t):
	for call in ('send_console()', 'r, w = os.pipe(); send_console(r, w)'):
		b = t.plain()
		b.terminal = True
		r = t.start_conmon(b, runtime=t.runtime(call + "\nwrite_pid(payload('exit 0'))"))
		m = r.message()
		tap.same(m and m['data'], -1, call)
		tap.true(r.end() != 0, 'status')


@test('C-90', 'ordinary data beside the descriptor is ignored, up to 4095 bytes')
def _(t):
	b = t.plain()
	b.terminal = True
	rt = t.runtime("pid, m = terminal('echo here', send=False)\nsend_console(m, data=b'n' * 4095)\nwrite_pid(pid)")
	r = t.create(b, runtime=rt)
	tap.same(r.end(), 0)
	tap.same(t.logged(), b'here\r\n')


@test('C-91', 'ONLCR is set on the terminal')
def _(t):
	b = t.plain()
	b.terminal = True
	rt = t.runtime("""import termios
master, slave = os.openpty()
a = termios.tcgetattr(slave)
a[1] &= ~termios.ONLCR
termios.tcsetattr(slave, termios.TCSANOW, a)
pid = payload(lambda: (os.read(os.open(DIR + '/gate', os.O_RDONLY), 1), os.write(slave, b'a\\nb\\n'), time.sleep(0)))
send_console(master)
write_pid(pid)
""")
	os.mkfifo(t.path('gate'))
	r = t.create(b, runtime=rt)
	with open(t.path('gate'), 'w') as f:
		f.write('x')
	r.end()
	tap.same(t.logged(), b'a\r\nb\r\n')


@test('C-98', 'a busy writer gets a larger pipe, also when its writes leave the last page of a full one partly empty', ours='2.1.6 leaves it at 64 KiB')
def _(t):
	rt = t.runtime("""import fcntl
def flood():
	block = (b'x' * 79 + b'\\n') * 819
	for _ in range(1000):
		os.write(1, block)
		if fcntl.fcntl(1, fcntl.F_GETPIPE_SZ) > 65536:
			break
	os.write(1, b'%d\\n' % fcntl.fcntl(1, fcntl.F_GETPIPE_SZ))
write_pid(payload(flood))
""")
	r = t.create(t.plain(), runtime=rt)
	r.end()
	tap.same(t.logged().splitlines()[-1], b'262144', 'size of the pipe')


@test('C-92', 'terminal output is stdout, stderr of the container too', modes=BOTH)
def _(t):
	r, b, c = t.run('echo out; echo err >&2', terminal=True, attach=True)
	c.read_end()
	tap.same(c.out, {2: b'out\r\nerr\r\n', 3: b''})
	r.end()
	tap.same(t.logged(), b'out\r\nerr\r\n')


@test('C-95', 'no slave open is no error: one that is opened later works, and meanwhile nothing spins')
def _(t):
	b = t.plain()
	b.terminal = True
	rt = t.runtime("""master, slave = os.openpty()
name = os.ttyname(slave)
def later():
	os.close(slave)
	os.close(master)
	gate = os.open(DIR + '/gate', os.O_RDWR)
	os.read(gate, 1)
	fd = os.open(name, os.O_RDWR | os.O_NOCTTY)
	os.write(fd, b'first\\n')
	os.read(gate, 1)
	os.close(fd)
	os.read(gate, 1)
	fd = os.open(name, os.O_RDWR | os.O_NOCTTY)
	os.write(fd, b'second\\n')
	os.read(gate, 1)
	os._exit(3)
pid = payload(later, close=(0, 1, 2))
os.close(slave)
send_console(master)
write_pid(pid)
""")
	os.mkfifo(t.path('gate'))
	gate = t.own_fd(os.open(t.path('gate'), os.O_RDWR))
	r = t.create(b, runtime=rt)
	used = r.cpu_while(0.6)
	tap.true(used < 300, '%d ms of CPU while no slave was open' % used)
	os.write(gate, b'1')
	t.wait_logged(b'first\r\n')
	os.write(gate, b'2')
	os.write(gate, b'3')
	t.wait_logged(b'second\r\n')
	os.write(gate, b'4')
	tap.same(r.end(), 3)


@test('C-96', 'a runtime that is gone when its console connection is served has set up a terminal')
def _(t):
	b = t.plain()
	b.terminal = True
	for n in range(5):
		r = t.create(b, runtime=t.runtime("pid, m = terminal('echo hello', send=False)\nwrite_pid(pid)\nsend_console(m)\nos._exit(0)"))
		tap.same(r.end(), 0)
		os.unlink(os.path.join(t.exits, b.id))


@test('C-97', 'the container\'s stdin stays blocking', modes=BOTH)
def _(t):
	r, b, c = t.run('read a; echo "a=$a"; read b; echo "b=$b"', '-i', attach=True)
	c.send('one\n')
	c.read_until(b'a=one\n')
	c.send('two\n')
	tap.same(c.read_end(), b'a=one\nb=two\n')
	r.end()


@test('C-99 C-100', 'each stream keeps its order, the end of one leaves the other running')
def _(t):
	r, b, c = t.run('exec 2>&-; for i in $(seq 2000); do echo "line $i"; done', attach=True)
	wanted = b''.join(b'line %d\n' % i for i in range(1, 2001))
	tap.same(c.read_end(), wanted)
	r.end()
	tap.same(t.logged(), wanted)
	os.unlink(t.log)
	r, b, c = t.run('exec >&-; for i in $(seq 200); do echo "line $i" >&2; done; exit 4')
	tap.same(r.end(), 4)
	tap.same(t.logged('stderr'), b''.join(b'line %d\n' % i for i in range(1, 201)))


@test('C-101', 'without -i client data is never delivered, and the client\'s departure is noticed')
def _(t):
	b = t.bundle('read x < /shared/go; read x && echo "got $x"; echo over; read y < /shared/go')
	gate = b.fifo()
	r = t.create(b)
	b.start()
	before = r.sockets()
	c = t.attach(b)
	c.send('never read\n')
	os.write(gate, b'go\n')
	tap.same(c.read_until(b'over\n'), b'over\n')
	c.close()
	if not conmonlab.REFERENCE:		# W-27
		tap.until(lambda: r.sockets() == before, 'conmon lets go of the client')
	os.write(gate, b'go\n')
	r.end()
	tap.same(t.logged(), b'over\n')


conmonlab.main()
