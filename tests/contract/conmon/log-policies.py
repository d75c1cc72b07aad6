#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What is ours alone in the log path: policies for sinks that fail or stall, json-file, syslog, rotation by age."""
import json
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import tap		# noqa: E402
from tap import test	# noqa: E402

OURS = 'not an option of the reference'
FILL = 'i=0; while [ $i -lt 3000 ]; do echo "line $i of those that fill the disk"; i=$((i+1)); done; '


@test('--log-on-error drop', 'what a full disk refused is counted in the log once there is room', ours=OURS)
def _(t):
	log = t.tmpfs('disk', '64k') + '/log'
	b = t.bundle(FILL + 'echo full > /shared/full; read x < /shared/go; echo after')
	gate = b.fifo()
	r = t.create(b, '--log-on-error', 'drop', log=log)
	b.start()
	b.wait_file('full')
	tap.until(lambda: os.path.getsize(log) > 50000, 'a full disk')
	os.truncate(log, 0)
	os.write(gate, b'go\n')
	tap.same(r.end(), 0)
	last = t.records(log)
	tap.same(last[-1].content, b'after')
	told = [rec.content for rec in last if rec.content.startswith(b'conmon: ')]
	tap.same(len(told), 1, 'notes')
	tap.has(told[0], b'lines) of output are missing here')


@test('--log-on-error block', 'a full disk makes the container wait and loses nothing', ours=OURS)
def _(t):
	log = t.tmpfs('disk', '64k') + '/log'
	b = t.bundle('x=$(printf %990s x); i=1000; while [ $i -lt 2500 ]; do echo "line $i$x"; i=$((i+1)); done')
	r = t.create(b, '--log-on-error', 'block', log=log)
	b.start()
	record = 45 + 1000
	seen = b''

	def full_or_over():
		return not r.is_alive() or os.path.getsize(log) > 65536 - record and os.path.getsize(log) % record == 0

	tap.until(full_or_over, 'a full disk')
	while r.is_alive():		# somebody takes the records away whenever not one more has room
		with open(log, 'r+b') as f:
			seen += f.read()
			f.truncate(0)
		tap.until(full_or_over, 'a full disk')
	with open(log, 'rb') as f:
		seen += f.read()
	lines = [rec.split(b' ', 3)[3] for rec in seen.splitlines()]
	tap.same(len(lines), 1500)
	tap.same(lines, [b'line %d%s' % (i, b' ' * 989 + b'x') for i in range(1000, 2500)])
	tap.same(r.end(), 0)


@test('--log-on-error stop', 'a full disk ends the container', ours=OURS)
def _(t):
	log = t.tmpfs('disk', '64k') + '/log'
	b = t.bundle(FILL + 'read x < /shared/go')
	b.fifo()
	r = t.create(b, '--log-on-error', 'stop', log=log)
	b.start()
	tap.same(r.end(), 137)


@test('--attach-policy detach', 'a client that does not read is disconnected after --attach-stall', ours=OURS)
def _(t):
	b = t.bundle('dd if=/dev/zero bs=65536 count=200 2>/dev/null')
	r = t.create(b, '--attach-policy', 'detach', '--attach-stall', '0', '-l', 'none')
	c = t.attach(b)
	b.start()
	tap.same(r.end(), 0)
	tap.true(len(c.read_end()) < 200 * 65536, 'cut off')


@test('--attach-policy drop-behind', 'a client that did not read is told how much it missed', ours=OURS)
def _(t):
	b = t.bundle('dd if=/dev/zero bs=65536 count=200 2>/dev/null; echo done > /shared/done; read x < /shared/go; echo end')
	gate = b.fifo()
	r = t.create(b, '--attach-stall', '0', '--attach-backlog', '0')
	c = t.attach(b)
	b.start()
	b.wait_file('done')
	c.read_until(b'this client did not read', stream=3)
	os.write(gate, b'go\n')
	tap.has(c.read_end(), b'end\n')
	tap.same(r.end(), 0)


@test('json-file', "Docker's records, with tag and labels", ours=OURS)
def _(t):
	log = t.path('json')
	b = t.bundle("printf 'one \"quoted\"\\n'; echo two >&2; printf unfinished")
	r = t.create(b, '-l', 'json-file:' + log, '--log-tag', 'T', '--log-label', 'SITE=here')
	b.start()
	tap.same(r.end(), 0)
	with open(log, encoding='utf-8') as f:
		records = [json.loads(line) for line in f]
	tap.same([x['log'] for x in records if x['stream'] == 'stdout'], ['one "quoted"\n', 'unfinished'])
	tap.same([x['log'] for x in records if x['stream'] == 'stderr'], ['two\n'])
	tap.same(records[0]['attrs']['tag'], 'T')
	tap.same(records[0]['attrs']['SITE'], 'here')
	tap.same(len(records[0]['time']), len('2020-01-02T03:04:05.123456789Z'))


@test('syslog', 'RFC 5424 over a unix socket and over UDP, priorities by prefix', ours=OURS)
def _(t):
	path = t.path('log-socket')
	unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
	unix.bind(path)
	udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	udp.bind(('127.0.0.1', 0))
	for sock, address in ((unix, path), (udp, 'udp:127.0.0.1:%d' % udp.getsockname()[1])):
		sock.settimeout(10)
		b = t.bundle("echo plain; echo '<4>careful'; echo bad >&2")
		r = t.create(b, '-l', 'syslog:' + address, '-n', 'box')
		b.start()
		got = [sock.recv(9000) for _ in range(3)]
		tap.same(r.end(), 0)
		tap.same(sorted(g.split(b' ', 1)[0] for g in got), [b'<27>1', b'<28>1', b'<30>1'])
		tap.same(sorted(g.rsplit(b'] ', 1)[1] for g in got), [b'bad', b'careful', b'plain'])
		tap.has(got[0], b' box - - [container@32473 id="' + b.id.encode())


@test('--log-rate-policy drop', 'lines beyond the rate are left out and counted, attached clients get them all', ours=OURS)
def _(t):
	b = t.bundle('i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done; read x < /shared/go; echo last')
	gate = b.fifo()
	r = t.create(b, '--log-rate-lines', '50', '--log-rate-policy', 'drop')
	c = t.attach(b)
	b.start()
	c.read_until(b'line 2999\n')
	os.write(gate, b'go\n')
	tap.has(c.read_end(), b'line 1500\n')
	tap.same(r.end(), 0)
	records = t.records()
	lines = [rec.content for rec in records if rec.content.startswith(b'line ')]
	tap.true(0 < len(lines) < 3000, 'some are left out: %d' % len(lines))


@test('--log-rate block', 'a limited stream loses nothing', ours=OURS)
def _(t):
	b = t.bundle('i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done')
	r = t.create(b, '--log-rate', '20000')
	b.start()
	tap.same(r.end(), 0)
	tap.same(t.logged(), b''.join(b'line %d\n' % i for i in range(3000)))


@test('policies', 'wrong values are refused in one line', ours=OURS)
def _(t):
	for words, part in ((('--log-on-error', 'x'), 'drop, block or stop'), (('--attach-policy', 'x'), 'drop-behind or detach'),
			(('--attach-stall', '-1'), '0 to'), (('--log-rate-policy', 'x'), 'block or drop'),
			(('-l', 'json-file:/dev/null', '--log-label', 'A=' + 'x' * 40000), 'json-file takes'),
			(('-l', 'journald', '--log-label', 'A=' + 'x' * 100000, '--log-label', 'B=' + 'x' * 100000), 'a log takes'),
			(('--log-rate-burst', '0'), '1 to'), (('-l', 'syslog:here'), 'syslog needs'), (('-l', 'json-file:'), 'filename')):
		b = t.plain()
		r = t.conmon('-c', b.id, '-u', b.id, '-r', '/bin/true', '-l', 'none', *words, sync=None)
		tap.same(r.front_status(), 1)
		tap.has(r.err(), part)


conmonlab.main()
