#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The attach socket: where it is, packets, end of input, many clients (C-102 to C-123)."""
import os
import select
import socket
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import attachclient	# noqa: E402
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402

LATER = 'read x < /shared/go; %s'


def gated(t, script, *extra, **how):
	"""A container that runs @script once go() is called: (run, bundle, go)."""
	b = t.bundle('read x < /shared/go; ' + script, **{k: how.pop(k) for k in ('terminal', 'directory') if k in how})
	gate = b.fifo()
	r = t.create(b, *extra, **how)
	b.start()
	return r, b, lambda: os.write(gate, b'go\n')


@test('C-102', 'no attach socket and no FIFOs without a bundle in exec mode')
def _(t):
	b = t.plain()
	r = t.conmon('-c', b.id, '-r', t.runtime("write_pid(payload('exit 0'))"), '-p', t.path('p'), '-l', t.log, '-e',
		'--exec-process-spec', t.exec_spec('true'), '--sync', start='stream', sync='pipe')
	tap.same(r.message(), {'exit_code': 0})
	tap.same(r.front_status(), 0)
	tap.same(os.listdir(t.cwd) + os.listdir(b.path), [])


@test('C-103', 'a SEQPACKET socket of mode 0700 that holds ten connections before they are served', modes=BOTH)
def _(t):
	r, b, go = gated(t, 'echo x')
	st = os.lstat(b.attach_path)
	tap.true(stat.S_ISSOCK(st.st_mode), 'a socket')
	tap.same(stat.S_IMODE(st.st_mode), 0o700)
	r.settle()
	clients = [t.attach(b) for _n in range(10)]
	r.serving(10)
	go()
	for c in clients:
		tap.same(c.read_end(), b'x\n')
	r.end()


@test('C-104 C-105', 'without --full-attach: a symlink in the socket directory, replacing an old one')
def _(t):
	b = t.bundle('read x < /shared/go')
	gate = b.fifo()
	link = os.path.join(t.sockets, b.id)
	os.symlink('/nowhere', link)
	open(b.attach_path, 'w').close()
	r = t.create(b, full=False)
	tap.same(os.readlink(link), b.path)
	c = attachclient.Client(link + '/attach')
	t.clients.append(c)
	b.start()
	os.write(gate, b'go\n')
	c.read_end()
	r.end()
	tap.true(not os.path.lexists(b.attach_path), 'socket gone')


@test('C-108', 'the symlink is gone when the monitor is', ours='2.1.6 leaves it')
def _(t):
	b = t.bundle('exit 0')
	r = t.create(b, full=False)
	b.start()
	r.end()
	tap.same(os.listdir(t.sockets), [])


@test('C-104', '--full-attach: no symlink, whatever --socket-dir-path says')
def _(t):
	b = t.bundle('exit 0')
	r = t.create(b, '--socket-dir-path', t.path('not/there'))
	t.attach(b)
	b.start()
	r.end()


@test('C-106', 'bundle paths of any length, through /proc/self/fd and through the symlink', modes=BOTH)
def _(t):
	directory = t.path('/'.join(['long' * 40] * 3))
	os.makedirs(directory)
	r, b, go = gated(t, 'echo x', full=False, directory=directory)
	r.settle()
	one = t.attach(b)
	two = attachclient.Client(os.path.join(t.sockets, b.id, 'attach'), 'path')
	t.clients.append(two)
	r.serving(2)
	go()
	tap.same([one.read_end(), two.read_end()], [b'x\n', b'x\n'])
	r.end()


@test('C-109', 'packets: stream id, then data; never longer than 8193 bytes')
def _(t):
	r, b, go = gated(t, 'head -c 300000 /dev/zero; echo e >&2')
	c = t.attach(b)
	go()
	tap.same(c.read_end(), bytes(300000))
	tap.same(c.out[3], b'e\n')
	tap.true(max(size for _s, size in c.packets) <= 8192, 'size of a packet')
	r.end()


@test('C-110', 'client packets up to 32768 bytes arrive whole', modes=BOTH)
def _(t):
	r, b, go = gated(t, 'cat', '-i')
	c = t.attach(b)
	data = bytes(range(256)) * 128
	go()
	c.send(data)
	c.send(data[:7])
	c.half_close()
	tap.same(c.read_end(), data + data[:7])
	r.end()


@test('C-110 W-9', 'larger client packets arrive whole, too', ours='W-9: silently cut')
def _(t):
	r, b, go = gated(t, 'cat', '-i')
	c = t.attach(b)
	data = bytes(range(256)) * 400
	c.s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400000)
	go()
	c.send(data)
	c.half_close()
	tap.same(len(c.read_end()), len(data))
	tap.same(c.out[2], data)
	r.end()


@test('C-111', 'a new client gets only what is read after it came')
def _(t):
	b = t.bundle('read x < /shared/go; echo old; read x < /shared/go; echo new')
	gate = b.fifo()
	r = t.create(b)
	b.start()
	os.write(gate, b'go\n')
	t.wait_logged(b'old\n')
	c = t.attach(b)
	os.write(gate, b'go\n')
	tap.same(c.read_end(), b'new\n')
	r.end()


@test('C-112', 'attach, then start: the first byte is never missed')
def _(t):
	for _n in range(8):
		r, b, c = t.run('echo first', attach=True)
		tap.same(c.read_end(), b'first\n')
		r.end()


@test('C-112', 'all connections that are pending are accepted before later output is read', race='2.1.6 accepts one a turn')
def _(t):
	for _n in range(6):
		b = t.bundle('echo first')
		r = t.create(b)
		clients = [t.attach(b) for _m in range(10)]
		b.start()
		tap.same([c.read_end() for c in clients], [b'first\n'] * 10)
		r.end()


@test('C-113', 'a hundred clients each get everything')
def _(t):
	r, b, go = gated(t, 'i=0; while [ $i -lt 50 ]; do echo "line $i"; i=$((i+1)); done')
	clients = []
	r.settle()
	for _n in range(100):
		clients.append(t.attach(b))
		if len(clients) % 10 == 0:		# room in the backlog
			r.serving(len(clients))
	go()
	wanted = b''.join(b'line %d\n' % i for i in range(50))
	for c in clients:
		tap.same(c.read_end(), wanted)
	r.end()


@test('C-113', 'input of several clients is merged, each one\'s order kept')
def _(t):
	r, b, go = gated(t, 'cat > /shared/in', '-i', '--leave-stdin-open')
	clients = [t.attach(b) for _n in range(3)]
	go()
	for i in range(20):
		for n, c in enumerate(clients):
			c.send('client %d line %02d\n' % (n, i))
	tap.until(lambda: os.path.exists(b.file('in')) and os.path.getsize(b.file('in')) == 60 * 17, 'all has arrived')
	lines = t.text(b.file('in')).splitlines()
	for n in range(3):
		tap.same([x for x in lines if x.startswith('client %d' % n)], ['client %d line %02d' % (n, i) for i in range(20)])
	b.delete()
	r.end()


@test('C-114 C-115', 'end of a client\'s input is end of the container\'s, after all its data; output goes on', modes=BOTH)
def _(t):
	for how in ('half-close', 'zero'):
		r, b, go = gated(t, 'n=$(wc -c); echo "n=$n"; echo more; exit 5', '-i')
		c = t.attach(b)
		go()
		for _n in range(40):
			c.send(b'y' * 10000)
		if how == 'half-close':
			c.half_close()
		else:
			c.s.send(b'')
		tap.same(c.read_end(), b'n=400000\nmore\n')
		tap.same(r.end(), 5)


@test('C-114', 'a client that closes after its data: all of it is delivered, then the end')
def _(t):
	r, b, go = gated(t, 'n=$(wc -c); echo "n=$n"', '-i')
	c = t.attach(b)
	go()
	for _n in range(30):
		c.send(b'y' * 10000)
	c.close()
	r.end()
	tap.same(t.logged(), b'n=300000\n')


@test('C-114 C-116', 'the first client\'s end counts though others are attached; later ones only see output')
def _(t):
	r, b, go = gated(t, 'n=$(wc -c); echo "n=$n"; read x < /shared/go; echo last', '-i')
	r.settle()
	other, first = t.attach(b), t.attach(b)
	r.serving(2)
	go()
	first.send('12345')
	first.half_close()
	tap.same(other.read_until(b'\n'), b'n=5\n')
	late = t.attach(b)
	late.send('ignored')
	go()
	tap.same(late.read_end(), b'last\n')
	tap.same(other.read_end(), b'n=5\nlast\n')
	r.end()


@test('C-114', '--leave-stdin-open: the end of a client changes nothing')
def _(t):
	r, b, go = gated(t, 'while read x; do echo "got $x"; [ $x = end ] && exit 3; done; exit 4', '-i', '--leave-stdin-open')
	go()
	for word in ('one', 'two', 'end'):
		c = t.attach(b)
		c.send(word + '\n')
		c.half_close()
		c.read_until(b'got ' + word.encode())
	tap.same(r.end(), 3)


@test('C-117', '-t without -i: the end of a client closes nothing, who attaches again can type again', modes=BOTH)
def _(t):
	r, b, go = gated(t, 'stty -echo; echo ready; while read x; do echo "got $x"; [ $x = end ] && exit 3; done', terminal=True)
	first = t.attach(b)
	go()
	first.read_until(b'ready')
	first.send('one\n')
	first.half_close()
	first.read_until(b'got one')
	first.close()
	second = t.attach(b)
	second.send('end\n')
	second.read_until(b'got end')
	tap.same(r.end(), 3)


@test('C-117 C-114', '-t -i: the first end of input ends it for good, output continues')
def _(t):
	r, b, go = gated(t, 'stty -echo; echo ready; read x; echo "got $x"; read x < /shared/go; echo last', '-i', terminal=True)
	c = t.attach(b)
	go()
	c.read_until(b'ready')
	c.send('one\n')
	c.half_close()
	c.read_until(b'got one')
	go()
	tap.has(c.read_end(), b'last\r\n')
	r.end()


@test('C-118', 'a client that died disturbs no other')
def _(t):
	b = t.bundle('for i in 1 2 3; do read x < /shared/go; echo "line $i"; done')
	gate = b.fifo()
	r = t.create(b)
	b.start()
	r.settle()
	dies, stays = t.attach(b), t.attach(b)
	r.serving(2)
	os.write(gate, b'go\n')
	dies.read_until(b'line 1')
	dies.close()
	for n in range(2):
		stays.read_until(b'line %d' % (n + 1))
		os.write(gate, b'go\n')
	tap.same(stays.read_end(), b'line 1\nline 2\nline 3\n')
	r.end()


@test('C-118 W-27', 'the descriptor of a client that is gone is released though no output follows',
	ours='W-27: at the next output')
def _(t):
	for options in ((), ('-i', '--leave-stdin-open')):
		r, b, go = gated(t, 'read x < /shared/go', *options)
		before = r.sockets()
		c = t.attach(b)
		c.send('data')
		tap.until(lambda: r.sockets() > before, 'the client is served')
		c.close()
		tap.until(lambda: r.sockets() == before, 'its descriptor is gone')
		b.delete()
		r.end()


@test('C-119', 'container input that is full holds the client back, and nothing is lost')
def _(t):
	r, b, go = gated(t, 'sha1sum < /dev/stdin', '-i')
	import hashlib
	data = os.urandom(1 << 20)
	c = t.attach(b)
	c.s.setblocking(False)
	sent = 0
	while sent < len(data):
		try:
			sent += c.s.send(data[sent:sent + 32768])
		except BlockingIOError:
			if not select.select([], [c.s], [], 0.5)[1]:
				break
	tap.true(0 < sent < len(data), 'held back after %d bytes' % sent)
	go()
	c.s.setblocking(True)
	while sent < len(data):
		sent += c.s.send(data[sent:sent + 32768])
	c.half_close()
	tap.same(c.read_end().split()[0].decode(), hashlib.sha1(data).hexdigest())
	r.end()


@test('C-98 C-121 C-122', 'a client that reads gets everything: 700 KB at once, closed only after all of it', modes=BOTH)
def _(t):
	r, b, go = gated(t, 'head -c 700000 /dev/zero | tr "\\0" z; exit 3')
	c = t.attach(b)
	go()
	tap.same(c.read_end(), b'z' * 700000)
	tap.same(r.end(), 3)


@test('C-121', '1.5 MB through the container and back at once')
def _(t):
	r, b, go = gated(t, 'cat', '-i')
	c = t.attach(b)
	go()
	data = os.urandom(65536) * 23
	sent = 0
	while sent < len(data):
		_r, w, _x = select.select([], [c.s], [], 0)
		if w:
			sent += c.s.send(data[sent:sent + 16384])
		while select.select([c.s], [], [], 0 if w else 5)[0]:
			c.receive()
			w = True
	c.half_close()
	tap.same(len(c.read_end()), len(data))
	tap.true(c.out[2] == data, 'same bytes')
	r.end()


@test('C-122', 'what is queued at the end of the container stays readable after conmon is gone')
def _(t):
	r, b, go = gated(t, 'head -c 60000 /dev/zero; exit 2')
	c = t.attach(b)
	go()
	tap.same(r.end(), 2)
	tap.same(c.read_end(), bytes(60000))


@test('C-123', 'the exit file follows the end of the attach stream')
def _(t):
	r, b, go = gated(t, 'exit 9')
	c = t.attach(b)
	go()
	c.read_end()
	tap.same(t.exit_file(b, 2), '9')
	r.end()


conmonlab.main()
