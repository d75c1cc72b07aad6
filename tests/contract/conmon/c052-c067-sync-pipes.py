#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Start and sync pipes: transports, exact bytes, who is told what and when (C-52 to C-67)."""
import json
import os
import select
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402

GOOD = "write_pid(payload('exit 0'))"
FAILS = 'sys.stderr.buffer.write(%r)\nsys.stderr.flush()\nsys.exit(1)'


def failure(t, text, **how):
	"""The raw message after a runtime that wrote @text and failed."""
	b = t.plain()
	r = t.start_conmon(b, runtime=t.runtime(FAILS % text), **how)
	line = r.raw_message()
	r.sync_ended()
	tap.same(r.end(), 1)
	return line


@test('C-52', 'a packet, many bytes, or the end of file on the start pipe all mean go')
def _(t):
	for kind in ('seq', 'stream', 'pipe'):
		for data in (b'\0', b'x' * 8192, b'', None):
			if data == b'' and kind != 'seq':
				continue
			b = t.plain()
			r = t.start_conmon(b, runtime=t.runtime(GOOD), start=kind, go=False)
			if data is None:
				r.close_start()
			else:
				r.go(data)
			tap.true(r.message()['data'] > 0, 'created after %r on %s' % (data and data[:4], kind))
			tap.same(r.end(), 0)


@test('C-52', 'a FIFO will do for both pipes, as the upstream tests use')
def _(t):
	b = t.plain()
	for name in ('sync', 'start'):
		os.mkfifo(t.path(name))
	sync = t.own_fd(os.open(t.path('sync'), os.O_RDWR | os.O_NONBLOCK))
	start = t.own_fd(os.open(t.path('start'), os.O_RDWR))
	r = t.conmon(*t.options(b, runtime=t.runtime(GOOD)), sync=None, keep={5: sync, 6: start},
		env={'_OCI_SYNCPIPE': '5', '_OCI_STARTPIPE': '6'})
	os.write(start, b'go')
	select.select([sync], [], [], 10)
	tap.true(json.loads(os.read(sync, 4096))['data'] > 0, 'created')
	tap.same(r.end(), 0)


@test('C-52 C-54', 'the start pipe is read once and closed without --exec-attach')
def _(t):
	b = t.plain()
	r = t.start_conmon(b, runtime=t.runtime("wait_for(DIR + '/go')\n" + GOOD), start='stream')
	r.front_status()
	tap.true(select.select([r.start], [], [], 10)[0], 'end of file at our end of the start pipe')
	tap.same(os.read(r.start, 1), b'')
	open(t.path('go'), 'w').close()
	r.created()
	r.end()


@test('C-55 C-56', 'the message of success, byte for byte, in both versions', modes=BOTH)
def _(t):
	for v1, key in ((True, 'data'), (False, 'pid')):
		b = t.bundle('exit 0')
		r = t.start_conmon(b, v1=v1)
		line = r.raw_message()
		tap.same(line, b'{"%s": %d}\n' % (key.encode(), b.pid))
		r.front_status()
		b.start()
		r.sync_ended()
		r.end()


@test('C-55 C-56 C-63', 'the message of failure, byte for byte, in both versions: always -1', modes=BOTH)
def _(t):
	tap.same(failure(t, b'no such thing\n'), b'{"data": -1, "message": "no such thing\\n"}\n')
	tap.same(failure(t, b'x', v1=False), b'{"pid": -1, "message": "x"}\n')


@test('C-55 C-61 C-63', 'a runtime that fails silently is reported, without text', ours='2.1.6 sends nothing; since 2.2.0')
def _(t):
	tap.same(json.loads(failure(t, b''))['data'], -1)
	tap.same(json.loads(failure(t, b'', v1=False))['pid'], -1)


@test('C-57', 'quotes, backslashes, newlines and tabs are escaped, text beyond ASCII is passed through')
def _(t):
	tap.same(failure(t, b'"q" \\ \n\t \x01'), b'{"data": -1, "message": "\\"q\\" \\\\ \\n\\t \\u0001"}\n')
	tap.same(json.loads(failure(t, 'grüße ☃'.encode()))['message'], 'grüße ☃')


@test('C-57', 'escaping: the short forms, and \\u00xx in lower case', ours='2.1.6 leaves 0x1f bare, which is no JSON')
def _(t):
	line = failure(t, b'"q" \\ / \n\r\t\b\f \x01\x1f\x7f e')
	tap.same(line, b'{"data": -1, "message": "\\"q\\" \\\\ \\/ \\n\\r\\t\\b\\f \\u0001\\u001f\\u007f e"}\n')


@test('C-57 W-18', 'invalid UTF-8 from the runtime still gives valid JSON', ours='W-18: passed through as it is')
def _(t):
	for text in (b'bad \xff\xfe end', b'cut \xe2\x98', b'over \xc0\xaf', b'sur \xed\xa0\x80 x'):
		line = failure(t, text)
		text = json.loads(line.decode('utf-8'))['message']
		tap.true(text.startswith(('bad ', 'cut ', 'over ', 'sur ')), text)


@test('C-58 W-5', 'every message fits Podman\'s 4096-byte buffer, on a character boundary', ours='W-5: up to 8 KiB')
def _(t):
	for text in (b'e' * 8000, b'"' * 5000, '☃'.encode() * 2700, b'\x01' * 4000):
		b = t.plain()
		r = t.start_conmon(b, runtime=t.runtime(FAILS % text))
		whole = b''
		while not whole.endswith(b'\n'):
			piece = os.read(r.sync, 65536)
			tap.true(0 < len(piece) <= 4096, 'packet of %d bytes' % len(piece))
			whole += piece
		m = json.loads(whole.decode())
		tap.same(m['data'], -1)
		tap.true(m['message'] and text.decode().startswith(m['message'].rstrip('.…')), m['message'][-20:])
		r.end()


@test('C-59', 'an engine that closes its end after the first message disturbs nothing')
def _(t):
	b = t.bundle('read x < /shared/go; echo done; exit 3')
	gate = b.fifo()
	r = t.create(b)
	r.close_sync()
	b.start()
	os.write(gate, b'go\n')
	tap.same(r.end(), 3)
	tap.same(t.exit_file(b), '3')
	tap.same(t.logged(), b'done\n')


@test('C-59', 'an engine that is gone before the first message loses it the container\'s log and status, neither',
	ours='2.1.6 aborts; EPIPE tolerated since 2.1.8')
def _(t):
	b = t.plain()
	r = t.start_conmon(b, runtime=t.runtime("wait_for(DIR + '/go')\nwrite_pid(payload('echo done; exit 3'))"))
	r.front_status()
	r.close_sync()
	open(t.path('go'), 'w').close()
	tap.same(r.end(), 3)
	tap.same(t.exit_file(b), '3')
	tap.same(t.logged(), b'done\n')


@test('C-60', 'the sync pipe is at its end before the exit command runs')
def _(t):
	os.mkfifo(t.path('gate'))
	gate = t.own_fd(os.open(t.path('gate'), os.O_RDWR))
	script = t.path('exit')
	with open(script, 'w') as f:
		f.write('#!/bin/sh\nread x < %s\n' % t.path('gate'))
	os.chmod(script, 0o755)
	r, b = t.fake('exit 0', '--exit-command', script)
	r.sync_ended()
	tap.true(r.is_alive(), 'the monitor waits for its exit command')
	os.write(gate, b'go\n')
	tap.same(r.end(), 0)


@test('C-62', 'when the message comes, attach, ctl and winsz are there and usable, and nothing was read yet', modes=BOTH)
def _(t):
	b = t.bundle('cat')
	r = t.create(b, '-i')
	c = t.attach(b)
	t.ctl(b, '1 24 80\n')
	t.ctl(b, '24 80\n', 'winsz')
	b.start()
	c.send('ping\n')
	c.read_until(b'ping\n')
	c.half_close()
	tap.same(r.end(), 0)


@test('C-65 W-6', 'giving up after the fork for whatever reason is told on the sync pipe',
	ours='W-6: 2.1.6 just exits')
def _(t):
	missing = t.plain()
	os.rmdir(missing.path)
	for name, options in (('no bundle', t.options(missing, runtime=t.runtime(GOOD))),
			      ('no socket directory', t.options(t.plain(), '--socket-dir-path', t.path('no/dir'),
				runtime=t.runtime(GOOD), full=False)),
			      ('no notify directory', t.options(t.plain(), '--sdnotify-socket', t.path('n'), runtime=t.runtime(GOOD)))):
		r = t.conmon(*options, start='seq')
		m = r.message()
		tap.true(m is not None, '%s: a message' % name)
		tap.same(m['data'], -1, name)
		tap.true(m.get('message'), '%s: with a reason' % name)
		r.sync_ended()
		tap.true(r.end() != 0, '%s: status' % name)


@test('C-65 W-6', 'a directory in the way of a FIFO is told on the sync pipe', ours='W-6: 2.1.6 just exits')
def _(t):
	b = t.plain()
	os.makedirs(b.path + '/ctl/full')
	r = t.start_conmon(b, runtime=t.runtime(GOOD))
	m = r.message()
	tap.same(m and m['data'], -1)
	r.end()


@test('C-66 C-67', 'exec by version 1: exit files first, then the status; and also without --exit-dir')
def _(t):
	b = t.bundle('read x < /shared/go')
	b.fifo()
	main = t.create(b, exits=False)
	b.start()
	for exits in (True, False):
		session = t.path('session%d' % exits)
		os.mkdir(session)
		argv = ['--api-version', '1', '-c', b.id, '-u', 'session', '-r', conmonlab.oci.RUNC, '-b', session, '-p',
			session + '/exec_pid', '-l', 'none', '--full-attach', '--runtime-arg', '--root=' + t.runc_root, '-e',
			'--exec-process-spec', t.exec_spec('exit 17'), '-P', session + '/conmon.pid']
		r = t.conmon(*argv, *(['--exit-dir', t.exits, '--persist-dir', t.persist] if exits else []), start='seq')
		tap.true(r.message()['data'] > 0, 'first message')
		line = r.raw_message()
		if exits:
			tap.same(t.text(os.path.join(t.exits, b.id)), '17')
			tap.same(t.persist_exit(), '17')
		tap.same(line, b'{"data": 17}\n')
		r.sync_ended()
		tap.same(r.end(), 17)
	b.delete()
	main.end()


conmonlab.main()
