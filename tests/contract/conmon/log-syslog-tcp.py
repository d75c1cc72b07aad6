#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""syslog over TCP (RFC 5424 in RFC 6587's octet counting): reconnecting, policies, kills."""
import os
import re
import select
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from tap import test	# noqa: E402

OURS = 'not a driver of the reference'
SECONDS = 20
LINES = 'i=%d; while [ $i -lt %d ]; do echo "line $i"; i=$((i+1)); done; '
NOTE = re.compile(rb'conmon: (\d+) bytes \((\d+) lines\) of output are missing here\n?\Z')


class Receiver:
	"""A syslog receiver that listens; its connections are made by hand, so that a test can stall and break them."""

	def __init__(self, t, port=0, buffer=None):
		self.listener = socket.socket()
		self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		if buffer:
			self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
		self.listener.bind(('127.0.0.1', port))
		self.listener.listen(8)
		self.listener.settimeout(SECONDS)
		self.port = self.listener.getsockname()[1]
		self.options = ('-l', 'syslog:tcp:127.0.0.1:%d' % self.port)
		self.sock, self.data = None, b''
		t.clients.append(self)

	def accept(self):
		self.sock, _ = self.listener.accept()
		self.sock.settimeout(SECONDS)
		self.data = b''

	def frame(self):
		"""The next message; None at the end of the connection."""
		while True:
			size, blank, rest = self.data.partition(b' ')
			if blank and len(rest) >= int(size):
				self.data = rest[int(size):]
				return rest[:int(size)]
			more = self.sock.recv(65536)
			if not more:
				tap.same(self.data, b'', 'the end of the last message')
				return None
			self.data += more

	def text(self):
		message = self.frame()
		return None if message is None else message.split(b'] ', 1)[1]

	def texts_until(self, last):
		got = []
		while not got or got[-1] != last:
			got.append(self.text())
			tap.true(got[-1] is not None, 'the connection ended before %r' % last)
		return got

	def close(self):
		self.break_off()
		self.listener.close()

	def break_off(self):
		"""End the connection with a reset."""
		if self.sock:
			self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
			self.sock.close()
		self.sock = None


def lines(first, last):
	return [b'line %d' % i for i in range(first, last)]


@test('syslog over TCP', 'messages with their length before them, priorities by stream and prefix', ours=OURS)
def _(t):
	receiver = Receiver(t)
	b = t.bundle("echo plain; echo '<4>careful'; echo; echo bad >&2; printf unfinished")
	r = t.create(b, *receiver.options, '-n', 'box', '--log-tag', 'T')
	b.start()
	receiver.accept()
	got = []
	while True:
		message = receiver.frame()
		if message is None:
			break
		got.append(message)
	tap.same(r.end(), 0)
	tap.same(sorted(g.split(b'] ', 1)[1] for g in got), [b'', b'bad', b'careful', b'plain', b'unfinished'])
	tap.same(sorted(g.split(b' ', 1)[0] for g in got), [b'<27>1', b'<28>1', b'<30>1', b'<30>1', b'<30>1'])
	stamp = rb'<\d\d>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d \S+ T - - \[container@32473 id="%s" name="box" tag="T"\] '
	for g in got:
		tap.true(re.match(stamp % b.id.encode(), g), 'header: %r' % g)


@test('syslog over TCP', 'a receiver that comes later gets what was kept, once and in order', ours=OURS)
def _(t):
	receiver = Receiver(t)
	receiver.listener.close()
	b = t.bundle(LINES % (0, 500) + 'echo > /shared/written; read x < /shared/go; ' + LINES % (500, 600))
	gate = b.fifo()
	r = t.create(b, *receiver.options)
	b.start()
	b.wait_file('written')
	again = Receiver(t, receiver.port)
	again.accept()
	tap.same(again.texts_until(b'line 499'), lines(0, 500))
	os.write(gate, b'go\n')
	tap.same(again.texts_until(b'line 599'), lines(500, 600))
	tap.same(r.end(), 0)


@test('syslog over TCP', 'a receiver that closes and comes again misses nothing', ours=OURS)
def _(t):
	receiver = Receiver(t)
	b = t.bundle('i=0; while read x < /shared/go; do [ "$x" = end ] && exit 0; echo "line $i"; i=$((i+1)); done')
	gate = b.fifo()
	r = t.create(b, *receiver.options)
	b.start()
	for n in range(5):
		os.write(gate, b'go\n')
		receiver.accept()
		tap.same(receiver.text(), b'line %d' % n)
		receiver.sock.close()
		receiver.sock = None
	os.write(gate, b'end\n')
	tap.same(r.end(), 0)


@test('syslog over TCP', 'what a broken connection had not delivered comes over the next one, from the first unfinished message on',
	ours=OURS)
def _(t):
	receiver = Receiver(t, buffer=8192)
	b = t.bundle(LINES % (0, 3000) + 'echo > /shared/written; read x < /shared/go')
	gate = b.fifo()
	r = t.create(b, *receiver.options)
	b.start()
	receiver.accept()
	b.wait_file('written')

	def queued():
		return len(receiver.sock.recv(1 << 20, socket.MSG_PEEK))

	# nothing is taken out, so the window closes: what can be seen then is all that was ever acknowledged
	seen = [0]
	tap.until(lambda: seen.append(queued()) or (seen[-1] == seen[-2] > 0), 'a closed window', pause=0.3)
	receiver.data = receiver.sock.recv(1 << 20, socket.MSG_PEEK)
	first = []
	while True:
		size, blank, rest = receiver.data.partition(b' ')
		if not blank or len(rest) < int(size):
			break
		first.append(rest[:int(size)].split(b'] ', 1)[1])
		receiver.data = rest[int(size):]
	tap.true(0 < len(first) < 3000, 'a part is delivered: %d' % len(first))
	receiver.break_off()
	receiver.accept()
	tap.same(first + receiver.texts_until(b'line 2999'), lines(0, 3000))
	os.write(gate, b'go\n')
	tap.same(r.end(), 0)


@test('syslog over TCP', 'a monitor that is killed again and again: every line once, in order', ours=OURS)
def _(t):
	receiver = Receiver(t, buffer=16384)
	b = t.bundle(LINES % (0, 20000) + 'read x < /shared/go')
	gate = b.fifo()
	r = t.create(b, *receiver.options)
	def monitor(but=None):
		found = [p for p in r.processes() if p != but and b''.join(processes.cmdline(p)).startswith(b'conmon: monitor')]
		return found[0] if found else None

	killed = None
	b.start()
	receiver.accept()
	got, kills = [], 0
	while not got or got[-1] != b'line 19999':
		got.append(receiver.text())
		if len(got) % 900 == 0:
			killed = tap.until(lambda: monitor(killed), 'the next monitor')
			processes.kill(killed)
			kills += 1
	tap.same(got, lines(0, 20000))
	tap.true(kills > 15, 'kills')
	os.write(gate, b'go\n')
	tap.same(r.end(), 0)


@test('syslog over TCP', 'a receiver that stalls does not stop the container; what it missed is counted, no message is torn', ours=OURS)
def _(t):
	receiver = Receiver(t, buffer=8192)
	b = t.bundle('x=$(printf %990s x); ' + 'i=0; while [ $i -lt 6000 ]; do echo "line $i$x"; i=$((i+1)); done; '
		'echo > /shared/written; read x < /shared/go; echo last')
	gate = b.fifo()
	r = t.create(b, *receiver.options, '-l', t.log)
	b.start()
	receiver.accept()
	b.wait_file('written', seconds=SECONDS)
	os.write(gate, b'go\n')
	got = receiver.texts_until(b'last')
	tap.same(r.end(), 0)
	told = [int(m[2]) for m in map(NOTE.match, got) if m]
	came = [int(g.split()[1]) for g in got if g.startswith(b'line ')]
	tap.true(told, 'the loss is told')
	tap.same(sorted(set(came)), came, 'in order and once')
	tap.same(len(came) + sum(told), 6000)
	tap.same(len(t.logged().splitlines()), 6001, 'the other log has them all')


@test('syslog over TCP', 'without any receiver the container ends in time', ours=OURS)
def _(t):
	receiver = Receiver(t)
	receiver.listener.close()
	b = t.bundle(LINES % (0, 100))
	r = t.create(b, *receiver.options)
	b.start()
	tap.same(r.end(), 0)


@test('syslog over TCP', 'an address that is none is refused', ours=OURS)
def _(t):
	for address in ('tcp:', 'tcp:localhost:514', 'tcp:127.0.0.1', 'tcp:127.0.0.1:x'):
		b = t.plain()
		r = t.conmon('-c', b.id, '-u', b.id, '-r', '/bin/true', '-l', 'syslog:' + address, sync=None)
		tap.same(r.front_status(), 1)
		tap.has(r.err(), 'syslog needs')


conmonlab.main()
