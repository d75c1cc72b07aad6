#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The byte examples of netns-helper/PROTOCOL.md, replayed against ours."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'lib'))
import helperlab
import tap
from helperlab import api_text
from tap import test

DOCUMENT = os.path.join(HERE, '..', '..', '..', 'netns-helper', 'PROTOCOL.md')


def examples():
	"""Pairs of request and answer; an answer that ends in '...' is a beginning."""
	pairs, request = [], None
	with open(DOCUMENT) as f:
		for line in f:
			if line.startswith('> '):
				request = line[2:-1]
			elif line.startswith('< '):
				pairs.append((request, line[2:-1]))
	return pairs


@test('N-149', 'PROTOCOL.md: every example gives the bytes that it shows', ours='its own document')
def _(t):
	pairs = examples()
	tap.true(len(pairs) > 15, 'only %d examples found' % len(pairs))
	g, h, path = t.api_pair('--enable-ipv6', '--macaddress=02:00:00:00:00:05')
	for request, wanted in pairs:
		seen = api_text(path, request.encode())
		seen = seen.decode() if isinstance(seen, bytes) else seen
		if wanted.endswith('...'):
			wanted = wanted[:-3]
			seen = seen[:len(wanted)]
		tap.same(seen, wanted, 'answer to %s' % request)


helperlab.main()
