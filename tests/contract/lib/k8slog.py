# SPDX-License-Identifier: Apache-2.0
"""The k8s-file log format, read strictly: whatever is not exactly a record is a failure (C-141 to C-148)."""
import re

import tap

RECORD = re.compile(rb'(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d) (stdout|stderr) ([FP]) (.*)\Z', re.S)


class Record:
	def __init__(self, line):
		m = RECORD.match(line)
		if not m:
			raise tap.Failure('not a record: %r' % line[:200])
		self.time, self.stream, self.tag, self.content = m.group(1).decode(), m.group(2).decode(), m.group(3).decode(), m.group(4)
		self.size = len(line) + 1

	def __repr__(self):
		return '%s %s %r' % (self.stream, self.tag, self.content[:60])


def parse(data):
	if data and not data.endswith(b'\n'):
		raise tap.Failure('the log ends in the middle of a record: %r' % data[-80:])
	return [Record(line) for line in data.split(b'\n')[:-1]]


def read(path):
	with open(path, 'rb') as f:
		return parse(f.read())


def content(records, stream='stdout'):
	"""The bytes that the container wrote to @stream, as readers put them together (C-147)."""
	return b''.join(r.content + (b'\n' if r.tag == 'F' else b'') for r in records if r.stream == stream)
