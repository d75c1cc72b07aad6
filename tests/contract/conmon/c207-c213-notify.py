#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The sd_notify relay (C-207 to C-213)."""
import array
import os
import select
import socket
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402


class Relay:
	"""A container whose notify socket the test writes to itself, and the host's socket."""

	def __init__(self, t, path=None, address=None, **how):
		self.t, self.path = t, path or t.path('host.sock')
		self.host = None
		self.listen(address)
		self.b = t.plain()
		os.mkdir(self.b.path + '/notify')
		t.give(self.b.path + '/notify')
		os.mkfifo(t.path('gate'))
		self.gate = t.own_fd(os.open(t.path('gate'), os.O_RDWR))
		rt = t.runtime("write_pid(payload('read x < %s/gate; exit 3' % DIR))")
		self.r = t.create(self.b, '--sdnotify-socket', self.path, runtime=rt, **how)
		self.container = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		t.clients.append(self.container)
		self.container.connect(self.b.path + '/notify/notify.sock')

	def listen(self, address=None):
		self.host = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		self.host.bind(address or self.path)
		if not address:
			os.chmod(self.path, 0o777)
		self.t.clients.append(self.host)

	def deaf(self):
		"""The host's socket goes away."""
		self.host.close()
		os.unlink(self.path)

	def send(self, data):
		self.container.send(data)

	def gets(self, data):
		if not select.select([self.host], [], [], 5)[0]:
			tap.fail('nothing came, wanted %r' % data)
		tap.same(self.host.recv(65536), data)

	def gets_nothing(self):
		"""What was sent so far was dropped: the next good one comes first."""
		self.send(b'WATCHDOG=1')
		self.gets(b'WATCHDOG=1')

	def end(self):
		os.write(self.gate, b'go\n')
		tap.same(self.r.end(), 3)


@test('C-207', 'the socket: in the bundle, mode 0777, there before the runtime, replaces an old one, stays')
def _(t):
	x = Relay(t)
	st = os.stat(x.b.path + '/notify/notify.sock')
	tap.true(stat.S_ISSOCK(st.st_mode), 'a socket')
	tap.same(stat.S_IMODE(st.st_mode), 0o777)
	x.end()
	tap.true(os.path.exists(x.b.path + '/notify/notify.sock'), 'not removed')


@test('C-208 C-211', 'READY=1 and the watchdog are forwarded; conmon sends nothing of its own', modes=BOTH)
def _(t):
	x = Relay(t)
	for line in (b'READY=1', b'WATCHDOG=1'):
		x.send(line)
		x.gets(line)
	x.end()
	tap.true(not select.select([x.host], [], [], 0)[0], 'nothing more')


@test('C-208', 'the other allowed lines are forwarded', ours='2.1.6 knows READY and WATCHDOG only; since 2.1.9')
def _(t):
	x = Relay(t)
	for line in (b'WATCHDOG=trigger', b'RELOADING=1', b'STOPPING=1', b'STATUS=all is well', b'STATUS=', b'ERRNO=2', b'BUSERROR=x.y',
		     b'MONOTONIC_USEC=123'):
		x.send(line)
		x.gets(line)
	x.end()


@test('C-208', 'everything else is dropped', ours='2.1.6 takes what begins with READY=1 for it')
def _(t):
	x = Relay(t)
	for line in (b'MAINPID=1', b'BARRIER=1', b'FDSTORE=1', b'FDNAME=x', b'NOTIFYACCESS=all', b'WATCHDOG_USEC=5',
		     b'EXTEND_TIMEOUT_USEC=5', b'READY=10', b'READY=0', b'xREADY=1', b' READY=1', b'WATCHDOG=10', b'\n\n'):
		x.send(line)
		x.gets_nothing()
	x.end()


@test('C-208', 'lines of one datagram, by \\n and \\r, go in one datagram, joined by \\n', ours='2.1.6 sends READY=1 alone')
def _(t):
	x = Relay(t)
	x.send(b'MAINPID=4\nSTATUS=one\r\nREADY=1\nFDSTORE=1\n')
	x.gets(b'STATUS=one\nREADY=1')
	x.end()


@test('C-208', 'READY=1 among other lines is forwarded')
def _(t):
	x = Relay(t)
	x.send(b'MAINPID=4\nREADY=1\nFDSTORE=1\n')
	x.gets(b'READY=1')
	x.end()


@test('C-209', 'descriptors are not forwarded and are closed')
def _(t):
	x = Relay(t)
	r, w = os.pipe()
	t.own_fd(r)
	x.container.sendmsg([b'BARRIER=1'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [w]))])
	os.close(w)
	tap.true(select.select([r], [], [], 5)[0], 'the barrier completes')
	x.gets_nothing()
	x.end()


@test('C-210', 'content behind a NUL byte is ignored', ours='2.1.6 looks at the line ends first')
def _(t):
	x = Relay(t)
	x.send(b'READY=1\0\nSTATUS=hidden')
	x.gets(b'READY=1')
	x.send(b'STATUS=' + b's' * 20000)
	x.gets(b'STATUS=' + b's' * 20000)
	x.end()


@test('C-212 W-21', 'a host socket that is absent for a while costs only what was sent then', ours='W-21: the relay stops for ever')
def _(t):
	x = Relay(t)
	x.deaf()
	x.send(b'READY=1')
	tap.until(lambda: not pending(x), 'conmon has read it')
	x.listen()
	x.send(b'WATCHDOG=1')
	x.gets(b'WATCHDOG=1')
	x.end()


def pending(x):
	"""Whether the container's datagram still waits in conmon's queue, as far as the sender can see."""
	import fcntl
	import struct
	return struct.unpack('i', fcntl.ioctl(x.container.fileno(), 0x5411, b'\0' * 4))[0]	# TIOCOUTQ


@test('C-212 W-21', 'an empty datagram is harmless', ours='W-21: it disables the relay')
def _(t):
	x = Relay(t)
	x.send(b'')
	x.send(b'READY=1')
	x.gets(b'READY=1')
	x.end()


@test('C-213', 'an abstract address', ours='not supported upstream')
def _(t):
	name = 'contract-%s' % t.ident()[:20]
	x = Relay(t, path='@' + name, address='\0' + name)
	x.send(b'READY=1')
	x.gets(b'READY=1')
	x.end()


@test('C-207 C-65 W-21', 'exec without a bundle: the relay does not crash the set-up', ours='W-21')
def _(t):
	b = t.plain()
	r = t.conmon('-c', b.id, '-r', t.runtime("write_pid(payload('exit 4'))"), '-p', t.path('p'), '-l', 'none', '-e',
		'--exec-process-spec', t.exec_spec('true'), '--sync', '--sdnotify-socket', t.path('host.sock'), sync='pipe')
	m = r.message()
	tap.true(m is not None and m['exit_code'] in (4, -1), 'a message: %r' % m)
	tap.true(r.front_status() >= 0, 'no crash')


conmonlab.main()
