#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""All log drivers at once: each has every byte, whatever the lines are, and none suffers from what another one meets."""
import json
import os
import random
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from journal import Journal, private_run	# noqa: E402
from tap import test	# noqa: E402

private_run()
OURS = 'not drivers of the reference'
EDGES = (1, 2, 4095, 4096, 8191, 8192, 8193, 16383, 16384, 16385, 65535, 65536, 65537, 262143, 262144)
LABELS = ('--log-label', 'SITE=h"e\\re', '--log-tag', 'T', '-n', 'box')


class Receiver(threading.Thread):
	"""Takes syslog messages: from a socket of datagrams, or (stream) from connections, by their lengths. In a thread, as they must be taken at once."""

	def __init__(self, t, sock):
		super().__init__(daemon=True)
		self.sock, self.messages, self.rest = sock, [], b''
		self.is_stream = sock.type == socket.SOCK_STREAM
		if self.is_stream:
			sock.listen(4)
		t.clients.append(self)
		self.start()

	def run(self):
		try:
			if not self.is_stream:
				while True:
					self.messages.append(self.sock.recv(1 << 17))
			connection, _ = self.sock.accept()
			with connection:
				self.read(connection)
		except OSError:
			return

	def read(self, connection):
		while True:
			more = connection.recv(1 << 16)
			if not more:
				return
			self.rest += more
			while True:
				size, blank, rest = self.rest.partition(b' ')
				if not blank or len(rest) < int(size):
					break
				self.messages.append(rest[:int(size)])
				self.rest = rest[int(size):]

	def close(self):
		self.sock.shutdown(socket.SHUT_RDWR) if self.is_stream else None
		self.sock.close()

	def texts(self, stream):
		"""What the messages of @stream say, joined: a piece of a long line has LOG_PIECE_MAX bytes, its end has fewer."""
		out = b''
		for m in list(self.messages):
			if m.startswith(b'<30>' if stream == 2 else b'<27>'):
				text = m.split(b'"] ', 1)[1]
				out += text + (b'' if len(text) == 8192 else b'\n')
		return out


def udp():
	sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
	sock.bind(('127.0.0.1', 0))
	return sock, 'udp:127.0.0.1:%d' % sock.getsockname()[1]


def tcp():
	sock = socket.socket()
	sock.bind(('127.0.0.1', 0))
	return sock, 'tcp:127.0.0.1:%d' % sock.getsockname()[1]


def unix(t):
	sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
	sock.bind(t.path('dev-log'))
	return sock, t.path('dev-log')


def text_of(rng):
	"""Lines with lengths at every limit, of characters of one to four bytes."""
	lines = []
	for edge in EDGES:
		for size in (edge - 1, edge, edge + 1):
			line = ''.join(rng.choices('a\0\t"\\ä€😀\x7f\x1b', k=200)).encode() * (size // 300 + 1)
			line = line[:size]
			while line and line.decode('utf-8', 'ignore').encode() != line:
				line = line[:-1]
			lines.append(line + b'x' * (size - len(line)))
			lines.append(b'short %d' % size)
	rng.shuffle(lines)
	return b'\n'.join(lines) + b'\n'


def same(got, wanted, what):
	at = next((i for i, (x, y) in enumerate(zip(got, wanted)) if x != y), min(len(got), len(wanted)))
	tap.true(got == wanted, '%s: %d bytes, wanted %d; differ at %d: %r, wanted %r' % (what, len(got), len(wanted), at,
		got[max(0, at - 20):at + 20], wanted[max(0, at - 20):at + 20]))


def json_texts(path):
	out = {'stdout': '', 'stderr': ''}
	with open(path, encoding='utf-8') as f:
		for line in f:
			record = json.loads(line)
			out[record['stream']] += record['log']
			tap.same(record['attrs'], {'tag': 'T', 'name': 'box', 'SITE': 'h"e\\re'})
	return {k: v.encode() for k, v in out.items()}


def everywhere(t, block, kind):
	rng = random.Random(block)
	data = {1: text_of(rng), 2: text_of(rng)}
	sock, address = {'udp': udp, 'tcp': tcp, 'unix': lambda: unix(t)}[kind]()
	receiver = Receiver(t, sock)
	j = Journal(t)
	b = t.bundle('dd bs=%d if=/shared/1 2>/dev/null & dd bs=%d if=/shared/2 >&2 2>/dev/null; wait' % (block, block + 1))
	for n in data:
		with open(b.file(str(n)), 'wb') as f:
			f.write(data[n])
	r = t.create(b, '-l', 'json-file:' + t.path('json'), '-l', 'journald', '-l', 'syslog:' + address, *LABELS)
	b.start()
	j.drain_while(r)
	tap.same(r.end(), 0)
	same(t.logged(), data[1], 'k8s-file, stdout')
	same(t.logged('stderr'), data[2], 'k8s-file, stderr')
	texts = json_texts(t.path('json'))
	same(texts['stdout'], data[1], 'json-file, stdout')
	same(texts['stderr'], data[2], 'json-file, stderr')
	for name, priority in ((1, b'6'), (2, b'3')):
		entries = [dict(e) for e in j.entries]
		same(b''.join(e['MESSAGE'] for e in entries if e['PRIORITY'] == priority), data[name], 'journald, %d' % name)
	tap.same({(e['CONTAINER_TAG'], e['CONTAINER_NAME'], e['SITE']) for e in entries}, {(b'T', b'box', b'h"e\\re')})
	for stream in (2, 3):
		wanted = data[stream - 1]
		tap.until(lambda: kind == 'udp' or len(receiver.texts(stream)) >= len(wanted) - 99, 'syslog has everything')
		# the length of a piece does not say whether a line of exactly so many bytes ended with it
		same(receiver.texts(stream).replace(b'\n', b''), wanted.replace(b'\n', b''), 'syslog, stream %d' % stream)
	for m in receiver.messages:
		tap.has(m, b' T - - [container@32473 id="%s" name="box" tag="T" SITE="h\\"e\\\\re"] ' % b.id.encode())
		tap.true(len(m.split(b'"] ', 1)[1]) <= 8192, 'the length of a piece')


@test('log drivers together', 'k8s-file, json-file, journald and syslog over TCP: lines at every limit, characters at every cut', ours=OURS)
def _(t):
	everywhere(t, 4093, 'tcp')


@test('log drivers together', 'the same with syslog over a unix socket, in large writes', ours=OURS)
def _(t):
	everywhere(t, 200001, 'unix')


@test('log drivers together', 'the same with syslog over UDP, in small writes', ours=OURS)
def _(t):
	everywhere(t, 611, 'udp')


@test('log drivers together', 'each of them fails in turn: the others have every line, the container goes on', ours=OURS, deadline=60)
def _(t):
	for bad in ('json-file', 'journald', 'syslog'):
		sock, address = tcp()
		receiver = Receiver(t, sock)
		j = Journal(t)
		full = t.tmpfs('full-' + bad, '64k')
		place = (full if bad == 'json-file' else t.dir) + '/json'
		b = t.bundle('i=0; while [ $i -lt 4000 ]; do echo "line $i"; i=$((i+1)); done; echo over; exit 3')
		r = t.create(b, '-l', 'json-file:' + place, '-l', 'journald', '-l', 'syslog:' + address, *LABELS)
		if bad == 'journald':
			j.close()
		if bad == 'syslog':
			receiver.close()
		b.start()
		while r.is_alive():
			j.receive(0.05) if bad != 'journald' else processes.reap()
		tap.same(r.end(), 3)
		wanted = b''.join(b'line %d\n' % i for i in range(4000)) + b'over\n'
		same(t.logged(), wanted, 'k8s-file without ' + bad)
		if bad != 'json-file':
			same(json_texts(place)['stdout'], wanted, 'json-file without ' + bad)
			os.unlink(place)
		if bad != 'journald':
			j.drain()
			same(b''.join(dict(e)['MESSAGE'] for e in j.entries if dict(e).get('PRIORITY') == b'6' and dict(e)['MESSAGE'].endswith(b'\n')), wanted,
				'journald without ' + bad)
			j.close()
		if bad != 'syslog':
			tap.until(lambda: receiver.texts(2).endswith(b'over\n'), 'syslog has everything')
			same(receiver.texts(2), wanted, 'syslog without ' + bad)
			receiver.close()
		t.clients.remove(j)
		t.clients.remove(receiver)
		os.unlink(t.log)
		r.close_sync()
		b.delete()


conmonlab.main()
