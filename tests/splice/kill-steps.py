#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The worker is killed before and after each system call of a connection's life: its begin, its end, its refusal, its reset.
Spliced connections go on; those inside libslirp may be reset, but nobody is left waiting.

Each scenario is repeated with a kill one step further, until the worker comes to rest before the step. SPLICE_STRIDE (default 5) leaves steps
out, other ones each time that SPLICE_SEED says; 1 is all of them.
"""
import errno
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'contract', 'lib'))
import helperlab
import netlab
import tap
from helperlab import forward, free_port, worker
from netlab import HOST
from tap import test

STRIDE = int(os.environ.get('SPLICE_STRIDE', '5'))
SEED = int(os.environ.get('SPLICE_SEED', '1'))
PATIENCE = 12.0		# s; a first segment that was lost comes again after 1, 3 and 7 s
SIZE = 300000		# bytes: more than the sockets' buffers hold at first
ROWS = 8
RESTS = 3		# on a busy machine the worker may seem to rest though it only waits for a processor
LAST = 100000		# bytes: they fit into the sockets' buffers, but not into the window of the one who reads late
BUILD = os.environ.get('TANDEM_BUILDDIR') or os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'build')
KILL_AT = os.path.join(BUILD, 'tests/splice/kill-at')
DATA = os.urandom(SIZE)


class Case:
	"""One scenario: what is there before, what happens while the worker is followed, and what must come of it."""

	def __init__(self, t, guest, helper, path):
		self.t, self.guest, self.helper = t, guest, helper
		self.outside = t.listen(HOST, '127.0.0.1', backlog=64)
		self.service = t.listen(guest, '0.0.0.0', 8080, backlog=64)
		self.port, self.closed = free_port(), free_port()
		forward(path, self.port, 8080)
		forward(path, self.closed, 8081)
		self.nobody = free_port()

	def open(self, at, address, port):
		"""A socket on its way, or as far as it is told at once."""
		s = at.socket()
		s.setblocking(False)
		s.connect_ex((address, port))
		return s

	def pair(self, outbound):
		"""Both ends, the near one being the one that connected."""
		if outbound:
			near = self.guest.connect('10.0.2.2', self.outside.getsockname()[1], timeout=PATIENCE)
			far, _ = self.outside.accept()
		else:
			near = HOST.connect('127.0.0.1', self.port, timeout=PATIENCE)
			far, _ = self.service.accept()
		for s in (near, far):
			s.settimeout(PATIENCE)
		return near, far


def error_of(s):
	"""How a non-blocking connect() ends."""
	if not select.select([], [s], [], PATIENCE)[1]:
		return errno.ETIMEDOUT
	return s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def read_all(s):
	"""Every byte and how it ended: None, or the error."""
	got = b''
	try:
		while True:
			data = s.recv(65536)
			if not data:
				return got, None
			got += data
	except socket.timeout:
		return got, 'timed out'
	except OSError as e:
		return got, e.errno


def converse(near, far):
	for a, b, word in ((near, far, b'question'), (far, near, b'answer')):
		a.sendall(word)
		tap.same(b.recv(16), word, 'bytes')


def begin(outbound):
	"""connect(), a question and its answer."""
	def prepare(case):
		return None
	def act(case, _):
		listener = case.outside if outbound else case.service
		near = case.open(case.guest, '10.0.2.2', listener.getsockname()[1]) if outbound else \
			case.open(HOST, '127.0.0.1', case.port)
		with near:
			listener.settimeout(PATIENCE)
			tap.same(error_of(near), 0, 'connect()')
			near.settimeout(PATIENCE)
			far, _ = listener.accept()
			with far:
				far.settimeout(PATIENCE)
				converse(near, far)
	return prepare, act


def two_pairs(case):
	return [case.pair(True), case.pair(False)]


def taking_over(case, pairs):
	"""Connections are there, and others have just begun, when the worker is killed; its successor is followed from its birth."""
	pid = worker(case.helper)
	begun = [(case.open(case.guest, '10.0.2.2', case.outside.getsockname()[1]), case.outside),
		(case.open(HOST, '127.0.0.1', case.port), case.service)]
	os.kill(pid, signal.SIGKILL)
	for near, listener in begun:
		tap.same(error_of(near), 0, 'connect()')
		near.settimeout(PATIENCE)
		listener.settimeout(PATIENCE)
		far, _ = listener.accept()
		far.settimeout(PATIENCE)
		pairs.append((near, far))
	for near, far in pairs:
		converse(near, far)
		near.close()
		tap.same(far.recv(16), b'', 'end of stream')
		far.close()


def refusal(case, _):
	"""Nobody listens on the host: the guest is told."""
	with case.open(case.guest, '10.0.2.2', case.nobody) as s:
		tap.same(error_of(s), errno.ECONNREFUSED, 'connect()')


def refused_port(case, _):
	"""Nobody listens in the guest: the client is reset."""
	with case.open(HOST, '127.0.0.1', case.closed) as s:
		error = error_of(s)
		if error == errno.ECONNRESET:	# it came before we looked
			return
		tap.same(error, 0, 'connect()')
		s.settimeout(PATIENCE)
		tap.same(read_all(s), (b'', errno.ECONNRESET), 'the end')


def last_end(outbound, near_sends):
	"""One end has ended its stream before; the other one sends and closes, which is the connection's end, with bytes still on their way."""
	def prepare(case):
		near, far = case.pair(outbound)
		source, sink = (near, far) if near_sends else (far, near)
		sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
		sink.shutdown(socket.SHUT_WR)
		tap.same(source.recv(16), b'', 'end of stream')
		return source, sink
	def act(case, ends):
		source, sink = ends
		with source, sink:
			source.sendall(DATA[:LAST])
			source.close()
			select.select([], [], [], 0.02)		# the worker comes to its close() first, if it lives
			got, how = read_all(sink)
			tap.same(how, None, 'how it ended')
			tap.true(got == DATA[:LAST], '%d bytes of %d' % (len(got), LAST))
	return prepare, act


def end(outbound, near_sends):
	"""One end sends and closes, the other one reads everything, and closes then."""
	def prepare(case):
		near, far = case.pair(outbound)
		converse(near, far)
		return (near, far) if near_sends else (far, near)
	def act(case, ends):
		source, sink = ends
		with source, sink:
			source.settimeout(0.05)		# it may not fit as long as there is no worker
			sent, got, deadline = 0, b'', time.monotonic() + PATIENCE
			while sent < SIZE and time.monotonic() < deadline:
				try:
					sent += source.send(DATA[sent:])
				except (BlockingIOError, socket.timeout):
					got += sink.recv(SIZE)
			source.close()
			more, how = read_all(sink)
			tap.same(how, None, 'how it ended')
			tap.true(got + more == DATA[:sent] and sent == SIZE, '%d bytes of %d' % (len(got + more), sent))
	return prepare, act


def reset(outbound, from_near):
	"""One end resets; the other one sees a reset, not an end of stream."""
	def prepare(case):
		near, far = case.pair(outbound)
		converse(near, far)
		return (near, far) if from_near else (far, near)
	def act(case, ends):
		source, sink = ends
		with sink:
			source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
			source.close()
			tap.same(read_all(sink), (b'', errno.ECONNRESET), 'the end')
	return prepare, act


def works(case):
	"""It is ready: it has served a connection."""
	near, far = case.pair(True)
	with near, far:
		converse(near, far)


def kill_at(case, prepare, act, step):
	"""@return what kill-at says"""
	ends = prepare(case)
	whom = [str(case.helper.pid), str(step), 'child'] if act is taking_over else [str(worker(case.helper)), str(step)]
	tool = subprocess.Popen([KILL_AT] + whom, stdout=subprocess.PIPE, text=True)
	try:
		tap.same(tool.stdout.readline(), 'ready\n', 'kill-at')
		try:
			act(case, ends)
		except (tap.Failure, OSError) as e:
			tool.kill()
			raise tap.Failure('killed at step %d (%s): %s: %s' % (step, tool.stdout.read().strip(), type(e).__name__, e))
		return tool.stdout.readline().strip()
	finally:
		tool.wait()
		tool.stdout.close()


def every_step(t, prepare, act, *options):
	guest, helper, path = t.api_pair('--mtu=65520', *options, exit_fd=act is taking_over)	# then nobody else traces the keeper
	case = Case(t, guest, helper, path)
	stride = STRIDE * 4 if act is taking_over and STRIDE > 1 else STRIDE	# it has many, and each takes long
	step, kills, rests = 1 + random.Random(SEED).randrange(stride), 0, 0
	while rests < RESTS:
		works(case)
		said = kill_at(case, prepare, act, step)
		if said == 'over':
			rests += 1
			continue
		tap.has(said, 'killed', 'kill-at')
		kills, rests, step = kills + 1, 0, step + stride
	print('# %d steps, %d kills' % (step, kills))
	works(case)


def nothing(case):
	return None


SCENARIOS = [
	('a connection of the guest begins', *begin(True)),
	('a connection to a published port begins', *begin(False)),
	('a connection of the guest is refused', nothing, refusal),
	('a connection to a published port finds nobody', nothing, refused_port),
	('a worker takes over from a killed one', two_pairs, taking_over),
	('the guest sends and closes', *end(True, True)),
	('the server of a guest sends and closes', *end(True, False)),
	('a client of a published port sends and closes', *end(False, True)),
	('a published port sends and closes', *end(False, False)),
	('the guest sends the last bytes', *last_end(True, True)),
	('the server of a guest sends the last bytes', *last_end(True, False)),
	('the guest resets', *reset(True, True)),
	('the server of a guest resets', *reset(True, False)),
	('a client of a published port resets', *reset(False, True)),
]

# --- the plain path ---

class Ticker:
	"""A server that sends a word now and then to everyone, until it is told that nobody is there."""

	def __init__(self, listener):
		self.listener, self.threads, self.stopping = listener, [], False
		listener.settimeout(0.05)
		self.thread = threading.Thread(target=self.run)
		self.thread.start()

	def run(self):
		while not self.stopping:
			try:
				s, _ = self.listener.accept()
			except OSError:
				continue
			self.threads.append(threading.Thread(target=self.serve, args=(s,)))
			self.threads[-1].start()

	@staticmethod
	def serve(s):
		with s:
			s.settimeout(0.02)
			end = time.monotonic() + 2 * PATIENCE
			while time.monotonic() < end:
				try:
					s.sendall(b'tick')
					if not s.recv(16):
						return
				except socket.timeout:
					pass
				except OSError:
					return

	def stop(self):
		"""@return how many still have not been told after PATIENCE"""
		self.stopping = True
		self.thread.join()
		end = time.monotonic() + PATIENCE
		for t in self.threads:
			t.join(max(0.0, end - time.monotonic()))
		left = sum(t.is_alive() for t in self.threads)
		for t in self.threads:
			t.join()
		return left


def listens(near, ticks):
	"""The one who connected only waits: for bytes, or for being told that there are none."""
	error = error_of(near)
	tap.true(error != errno.ETIMEDOUT, 'connect() hangs')
	near.settimeout(PATIENCE)
	got = 0
	while not error and got < 4 * ticks:
		try:
			data = near.recv(4096)
		except socket.timeout:
			tap.fail('waiting for bytes or an end')
		except OSError:
			return
		if not data:
			return
		got += len(data)


def wait_only(outbound):
	def act(case, _):
		listener = case.outside if outbound else case.service
		ticker = Ticker(listener)
		try:
			near = case.open(case.guest, '10.0.2.2', listener.getsockname()[1]) if outbound else \
				case.open(HOST, '127.0.0.1', case.port)
			with near:
				listens(near, 4)
		finally:
			left = ticker.stop()
			listener.settimeout(PATIENCE)
		tap.same(left, 0, 'servers that were not told')
	return act


def told_of(how):
	"""The server ends or resets a connection of a guest that only waits; the guest is told, in whatever way."""
	def prepare(case):
		near, far = case.pair(True)
		converse(near, far)
		return near, far
	def act(case, ends):
		near, far = ends
		with near:
			if how == 'reset':
				far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
			far.close()
			tap.true(read_all(near)[1] != 'timed out', 'the guest was not told')
	return prepare, act


def row_of_kills(outbound):
	"""Several workers in a row, each a moment after it was born."""
	def run(t):
		guest, helper, path = t.api_pair('--mtu=65520', '--data-path=slirp')
		case = Case(t, guest, helper, path)
		rng = random.Random(SEED)
		for n in range(ROWS):
			works(case)
			listener = case.outside if outbound else case.service
			ticker = Ticker(listener)
			try:
				near = case.open(case.guest, '10.0.2.2', listener.getsockname()[1]) if outbound else \
					case.open(HOST, '127.0.0.1', case.port)
				with near:
					listens(near, 1)
					for _ in range(rng.randrange(2, 4)):
						os.kill(worker(helper), signal.SIGKILL)
						time.sleep(rng.random() * 0.004)	# the instant is the input
					listens(near, 1000)
			finally:
				left = ticker.stop()
				listener.settimeout(PATIENCE)
			tap.same(left, 0, 'servers that were not told')
	return run


PLAIN = [
	('a connection of the guest begins', nothing, wait_only(True)),
	('a connection to a published port begins', nothing, wait_only(False)),
	('the server of a guest resets', *told_of('reset')),
	('the server of a guest closes', *told_of('end')),
]

for title, prepare, act in PLAIN:
	@test('N-243', 'inside libslirp: killed at any step while %s: nobody is left waiting' % title, modes=['user'],
		deadline=120 if STRIDE > 2 else 600)
	def _(t, prepare=prepare, act=act):
		every_step(t, prepare, act, '--data-path=slirp')

for title, outbound in (('of the guest', True), ('to a published port', False)):
	@test('N-243', 'inside libslirp: killed several times in a row with a connection %s: both ends are told' % title, modes=['user'],
		deadline=120)
	def _(t, outbound=outbound):
		row_of_kills(outbound)(t)


for title, prepare, act in SCENARIOS:
	@test('N-243', 'killed at any step while %s' % title, modes=['user'], deadline=120 if STRIDE > 2 else 600)
	def _(t, prepare=prepare, act=act):
		every_step(t, prepare, act)


if __name__ == '__main__':
	if helperlab.REFERENCE:
		print('1..0 # SKIP %s has no worker' % helperlab.PROGRAM)
		sys.exit(0)
	if not os.access(KILL_AT, os.X_OK):
		print('1..0 # SKIP %s: build it' % KILL_AT)
		sys.exit(0)
	helperlab.main()
