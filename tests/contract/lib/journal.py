# SPDX-License-Identifier: Apache-2.0
"""A journal of the test's own: receives on /run/systemd/journal/socket of its mount namespace, in the native protocol."""
import array
import os
import select
import socket
import struct
import time

import processes
import tap

DIRECTORY = '/run/systemd/journal'


def private_run():
	"""An empty /run/systemd of our own, as we are in a mount namespace of our own."""
	os.makedirs('/run/systemd', exist_ok=True)
	processes.mount('tmpfs', '/run/systemd', 'tmpfs')
	os.mkdir(DIRECTORY)


def decode(data):
	"""The entries of one datagram of the native protocol, each a list of (name, value). Empty lines are between entries."""
	entries, fields, at = [], [], 0
	while at < len(data):
		end = data.index(b'\n', at)
		line = data[at:end]
		if not line:
			entries.append(fields)
			fields, at = [], end + 1
			continue
		if b'=' in line:
			name, value = line.split(b'=', 1)
			at = end + 1
		else:
			name = line
			size = struct.unpack('<Q', data[end + 1:end + 9])[0]
			value = data[end + 9:end + 9 + size]
			if len(value) != size or data[end + 9 + size:end + 10 + size] != b'\n':
				raise tap.Failure('a field of the journal entry is cut short: %r' % name)
			at = end + 10 + size
		fields.append((name.decode(), value))
	return [e for e in entries + [fields] if e]


class Journal:
	def __init__(self, t):
		self.path = DIRECTORY + '/socket'
		if os.path.exists(self.path):
			os.unlink(self.path)
		self.s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
		self.s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
		self.s.bind(self.path)
		os.chmod(self.path, 0o666)
		self.entries, self.credentials = [], []
		t.clients.append(self)

	def close(self):
		self.s.close()
		if os.path.exists(self.path):
			os.unlink(self.path)

	def receive(self, seconds):
		if not select.select([self.s], [], [], seconds)[0]:
			return False
		data, control, _flags, _a = self.s.recvmsg(1 << 20, 4096)
		sender = None
		for _level, kind, value in control:
			if kind == socket.SCM_RIGHTS:		# a large entry comes as a sealed memory file
				for fd in array.array('i', value):
					size = os.fstat(fd).st_size
					data = os.pread(fd, size, 0)
					os.close(fd)
			elif kind == 2:				# SCM_CREDENTIALS
				sender = struct.unpack('iii', value)
		for fields in decode(data):
			if any(name == 'CONTAINER_ID_FULL' for name, _v in fields):
				self.entries.append(fields)
				self.credentials.append(sender)
		return True

	def drain(self):
		while self.receive(0):
			pass
		return self.entries

	def drain_while(self, run):
		"""Keep reading until @run has ended: the queue of the socket is short."""
		while run.is_alive():
			self.receive(0.05)
		return self.drain()

	def wait(self, n, seconds=10):
		"""Wait for @n entries of containers."""
		end = time.monotonic() + seconds
		while len(self.entries) < n:
			if not self.receive(max(0, end - time.monotonic())):
				raise tap.Failure('%d journal entries, wanted %d' % (len(self.entries), n))
		return self.entries

	def field(self, name):
		"""The values of @name in all entries; None where there is none."""
		return [dict(e).get(name) for e in self.entries]
