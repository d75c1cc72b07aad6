#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The byte examples of conmon/PROTOCOL.md, replayed."""
import os
import re
import select
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import tap		# noqa: E402
from tap import test	# noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
used = set()


def read_examples():
	with open(os.path.join(HERE, '..', '..', '..', 'conmon', 'PROTOCOL.md'), encoding='utf-8') as f:
		blocks = re.findall(r'^```bytes (\S+)\n(.*?)\n```$', f.read(), re.S | re.M)
	return {name: text.encode().decode('unicode_escape').encode('latin-1') for name, text in blocks}


EXAMPLES = read_examples()


def example(name):
	used.add(name)
	return EXAMPLES[name]


def matches(seen, name):
	wanted = re.escape(example(name)).replace(b'PID', rb'[1-9][0-9]*').replace(b'NUMBER', rb'[1-9][0-9]*')
	wanted = wanted.replace(b'CID', b'[0-9a-f]{64}').replace(b'HOST', rb'\S+')
	wanted = wanted.replace(b'TIME', rb'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d')
	wanted = wanted.replace(b'STAMP', rb'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d')
	tap.true(re.fullmatch(wanted, seen, re.S), '%s: wanted %r, saw %r' % (name, example(name), seen))


PAYLOAD = "write_pid(payload('exit 9'))"


@test('C-52 C-55 C-56', 'start, created, attach packets, log line, exit and pid files')
def _(t):
	b = t.bundle('read x < /shared/go; echo to stdout; echo to stderr >&2; printf "no end of line"; exit 7')
	gate = b.fifo()
	r = t.start_conmon(b, go=False)
	r.go(example('start'))
	matches(r.raw_message(), 'sync-created-v1')
	matches(t.text(r.conmon_pidfile).encode(), 'file-pid')
	b.start()
	c = t.attach(b)
	os.write(gate, b'go\n')
	packets = []
	while True:
		if not select.select([c.s], [], [], 10)[0]:
			tap.fail('no end of the attach socket')
		packet = c.s.recv(9000)
		if not packet:
			break
		packets.append(packet)
	tap.same(r.end(), 7)
	# how output is cut into packets is the container's affair: three writes, two streams
	out = b''.join(p[1:] for p in packets if p[:1] == b'\x02')
	matches(b'\x02' + out[:out.index(b'\n') + 1], 'attach-stdout')
	matches(b''.join(p for p in packets if p[:1] == b'\x03'), 'attach-stderr')
	with open(t.log, 'rb') as f:
		lines = [line + b'\n' for line in f.read().split(b'\n') if b' stdout ' in line]
	matches(lines[0], 'log-line')
	matches(lines[-1], 'log-partial')
	matches(t.exit_file(b).encode(), 'file-exit')


@test('C-56', 'version 0: created, failed without a word', ours='2.1.6 sends nothing')
def _(t):
	r = t.start_conmon(t.plain(), runtime=t.runtime(PAYLOAD), v1=False)
	matches(r.raw_message(), 'sync-created-v0')
	r.end()
	r = t.start_conmon(t.plain(), runtime=t.runtime('sys.exit(1)'), v1=False)
	matches(r.raw_message(), 'sync-failed-silent-v0')
	r.end()


@test('C-57', 'failed, with the text of the runtime', ours='2.1.6 escapes fewer bytes')
def _(t):
	body = "sys.stderr.write('no \"such\" thing: /etc\\n')\nsys.stderr.flush()\nsys.exit(1)"
	r = t.start_conmon(t.plain(), runtime=t.runtime(body))
	matches(r.raw_message(), 'sync-failed-v1')
	r.end()


def exec_run(t, body, *extra, attach=None):
	b = t.plain()
	v1 = ('--api-version', '-u', b.id, '-b', b.path, '--conmon-pidfile', t.path('pid')) if attach else ()
	return b, t.conmon('-c', b.id, '-r', t.runtime(body), '-p', t.path('p'), '-l', 'none', '-e', '--full-attach', *v1,
		'--exec-process-spec', t.exec_spec('true'), *extra, start='seq', sync='seq', attach=attach)


@test('C-56 C-69', 'exec: both versions, time-out, attach pipe')
def _(t):
	_b, r = exec_run(t, PAYLOAD, '--sync')
	matches(r.raw_message(), 'sync-exit-v0')
	r.end()
	_b, r = exec_run(t, "write_pid(payload('sleep 60'))", '--sync', '-T', '1')
	matches(r.raw_message(), 'sync-timeout-v0')
	r.end()
	_b, r = exec_run(t, PAYLOAD, '--exec-attach', attach='seq')
	matches(r.raw_message(fd=r.attach_pipe), 'attach-ready')
	r.go()
	matches(r.raw_message(), 'sync-created-v1')
	matches(r.raw_message(), 'sync-exit-v1')
	r.end()


@test('C-109 C-126 C-133', 'input, resize, winsz, reopen')
def _(t):
	b = t.bundle('while read x; do echo got $x $(stty size); done', terminal=True)
	r = t.create(b, '-t', '-i')
	b.start()
	c = t.attach(b)
	for name, fifo, size in (('ctl-resize', 'ctl', b'24 80'), ('winsz', 'winsz', b'33 77')):
		t.ctl(b, example(name), name=fifo)
		# the FIFO and the socket are served in any order (C-135)
		for _try in range(200):
			seen = c.out[2].count(b'got typed')
			c.send(example('attach-input'))
			while c.out[2].count(b'got typed') == seen or not c.out[2].endswith(b'\n'):
				c.receive()
			if b'got typed ' + size in c.out[2]:
				break
		tap.has(c.out[2], b'got typed ' + size)
	os.rename(t.log, t.log + '.old')
	t.ctl(b, example('ctl-reopen'))
	tap.until(lambda: os.path.exists(t.log), 'the log file is there again')
	c.send(b'\x04')
	tap.same(r.end(), 0)


@test('C-208', 'notify relay', ours='2.1.6 knows READY and WATCHDOG only')
def _(t):
	host = t.path('host.sock')
	listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
	listener.bind(host)
	listener.settimeout(10)
	b = t.bundle('sleep 60')
	os.mkdir(b.path + '/notify')
	r = t.create(b, '--sdnotify-socket', host)
	b.start()
	with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
		s.sendto(example('notify-in'), b.path + '/notify/notify.sock')
	matches(listener.recv(4096), 'notify-out')
	listener.close()
	b.runc('kill', b.id, 'KILL')
	tap.same(r.end(), 137)


@test('attach clients', 'one that did not read is told what it missed', ours='2.1.6 lets the container wait')
def _(t):
	b = t.bundle('head -c 5000000 /dev/zero; echo > /shared/written; read x < /shared/go')
	gate = b.fifo()
	r = t.create(b, '--attach-stall', '0', '--attach-backlog', '0', '-l', 'none')
	c = t.attach(b)
	b.start()
	b.wait_file('written')
	c.read_until(b'did not read]\r\n', stream=3)
	matches(b'\x03' + c.out[3], 'attach-missed')
	os.write(gate, b'go\n')
	c.read_end()
	tap.same(r.end(), 0)


@test('--log-rate', 'the record about what is missing; syslog over TCP', ours='nothing of 2.1.6')
def _(t):
	listener = socket.socket()
	listener.bind(('127.0.0.1', 0))
	listener.listen(1)
	b = t.bundle('echo to stdout; seq 3000')
	r = t.create(b, '-n', 'box', '-l', 'syslog:tcp:127.0.0.1:%d' % listener.getsockname()[1], '--log-rate-lines', '10', '--log-rate-policy', 'drop')
	b.start()
	receiver, _ = listener.accept()
	data = b''
	while receiver in select.select([receiver], [], [], 10)[0]:
		more = receiver.recv(65536)
		if not more:
			break
		data += more
	receiver.close()
	listener.close()
	tap.same(r.end(), 0)
	size, _blank, rest = data.partition(b' ')
	matches(size + b' ' + rest[:int(size)], 'syslog-tcp')
	with open(t.log, 'rb') as f:
		matches([line for line in f.read().splitlines(True) if b' stderr ' in line][0], 'log-missed')


@test('C-3', 'every example of the page was replayed', ours='two are ours alone')
def _(t):
	tap.same(sorted(set(EXAMPLES) - used), [])


conmonlab.main()
