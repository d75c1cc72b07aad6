# SPDX-License-Identifier: Apache-2.0
"""A client of the attach socket, as Podman and CRI-O are."""
import os
import select
import socket
import time

import tap

PACKET_MAX = 8193	# what every caller's buffer has room for (C-109)


def connect(path, how='opath'):
	"""Connect to the attach socket at @path: 'opath' as Podman does, through /proc/self/fd; 'path' directly."""
	s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
	try:
		if how == 'opath':
			fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
			try:
				s.connect('/proc/self/fd/%d' % fd)
			finally:
				os.close(fd)
		else:
			s.connect(path)
	except BaseException:
		s.close()
		raise
	return s


class Client:
	def __init__(self, path, how='opath'):
		self.s = connect(path, how)
		self.out = {2: b'', 3: b''}
		self.packets = []		# (stream, size)
		self.ended = False

	def receive(self, seconds=10.0):
		"""One packet into out; False at the end of the stream."""
		if not select.select([self.s], [], [], max(0, seconds))[0]:
			raise tap.Failure('nothing on the attach socket for %g s (so far %d bytes)' % (seconds, len(self.out[2])))
		try:
			data = self.s.recv(PACKET_MAX + 8)
		except ConnectionResetError:
			data = b''
		if not data:
			self.ended = True
			return False
		if len(data) > PACKET_MAX:
			raise tap.Failure('packet of %d bytes, more than callers have room for (C-109)' % len(data))
		if data[0] not in (2, 3):
			raise tap.Failure('stream id %d' % data[0])
		self.out[data[0]] += data[1:]
		self.packets.append((data[0], len(data) - 1))
		return True

	def read_until(self, part, stream=2, seconds=10.0):
		end = time.monotonic() + seconds
		while part not in self.out[stream]:
			if not self.receive(end - time.monotonic()):
				raise tap.Failure('end of stream before %r: %r' % (part, self.out[stream][-300:]))
		return self.out[stream]

	def read_size(self, size, stream=2, seconds=30.0):
		end = time.monotonic() + seconds
		while len(self.out[stream]) < size:
			if not self.receive(end - time.monotonic()):
				raise tap.Failure('end of stream after %d of %d bytes' % (len(self.out[stream]), size))
		return self.out[stream]

	def read_end(self, seconds=20.0):
		"""Everything up to the end of the stream; what stdout was."""
		end = time.monotonic() + seconds
		while not self.ended and self.receive(end - time.monotonic()):
			pass
		return self.out[2]

	def send(self, data):
		if isinstance(data, str):
			data = data.encode()
		self.s.sendall(data)

	def half_close(self):
		self.s.shutdown(socket.SHUT_WR)

	def close(self):
		self.s.close()
