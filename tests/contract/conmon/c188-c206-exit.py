#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Exit: order, files, status, timeout, exit command (C-188 to C-206)."""
import json
import os
import signal
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402


def exit_program(t, body):
	"""An exit command made of shell lines."""
	path = t.path('exit-program')
	with open(path, 'w') as f:
		f.write('#!/bin/busybox sh\n' + body + '\n')
	os.chmod(path, 0o755)
	return path


def gate(t, name='gate'):
	os.mkfifo(t.path(name))
	return t.own_fd(os.open(t.path(name), os.O_RDWR))


@test('C-188 C-195', 'the end of the stdio pipes is not waited for: a background child holds them')
def _(t):
	g = gate(t)
	r, b = t.fake('(read x < %s) & echo out; exit 7' % t.path('gate'))
	tap.same(t.exit_file(b), '7')
	tap.same(t.logged(), b'out\n')
	os.write(g, b'go\n')
	tap.same(r.end(), 7)


@test('C-190 C-196', 'persist-dir/exit is there when exit-dir/CID appears, with the same value', modes=BOTH)
def _(t):
	for n in (0, 1, 255):
		r, b, c = t.run('exit %d' % n)
		tap.same(t.exit_file(b), str(n))
		tap.same(t.persist_exit(), str(n))
		tap.same(r.end(), n)
		os.unlink(t.persist + '/exit')


@test('C-190 C-192', 'order and atomicity, as a watcher sees it: exit, then CID, each by a rename')
def _(t):
	import ctypes
	import struct
	libc = ctypes.CDLL(None)
	fd = t.own_fd(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
	names = {libc.inotify_add_watch(fd, d.encode(), 0x100 | 0x80 | 0x2): d for d in (t.exits, t.persist)}
	r, b, c = t.run('exit 3')
	r.end()
	data, seen = os.read(fd, 65536), []
	while data:
		wd, mask, _c, size = struct.unpack('iIII', data[:16])
		name = data[16:16 + size].rstrip(b'\0').decode()
		if (names[wd], name) in ((t.exits, b.id), (t.persist, 'exit')):
			seen.append((name, mask))
		data = data[16 + size:]
	tap.same(seen, [('exit', 0x80), (b.id, 0x80)], 'events on the final names: moved-to only')
	tap.same(os.listdir(t.exits), [b.id], 'no temporary file left')
	tap.same(os.listdir(t.persist), ['exit'])


@test('C-192', 'decimal without newline, mode 0644, made anew')
def _(t):
	b = t.bundle('exit 9')
	path = os.path.join(t.exits, b.id)
	with open(path, 'w') as f:
		f.write('old and longer')
	inode = os.stat(path).st_ino
	r = t.create(b, setup=lambda: os.umask(0o22))
	b.start()
	r.end()
	tap.same(t.text(path), '9')
	tap.same(t.mode(path), 0o644)
	tap.true(os.stat(path).st_ino != inode, 'a new file')


@test('C-191', 'the attach socket is gone when the monitor is; ctl and winsz stay')
def _(t):
	r, b, c = t.run('exit 0')
	r.end()
	tap.same(sorted(n for n in os.listdir(b.path) if n in ('attach', 'ctl', 'winsz')), ['ctl', 'winsz'])


@test('C-191 W-11', 'the attach socket is removed before the exit file appears', race='W-11: after it')
def _(t):
	g = gate(t)
	prog = exit_program(t, 'read x < ' + t.path('gate'))
	for _n in range(5):
		b = t.plain()
		rt = t.runtime("write_pid(payload('exit 0'))")
		r = t.create(b, '--exit-command', prog, runtime=rt)
		path = os.path.join(t.exits, b.id)
		while not os.path.exists(path):
			pass
		tap.true(not os.path.exists(b.attach_path), 'socket gone when the exit file is there')
		os.write(g, b'go\n')
		r.end()


@test('C-191 W-11', 'a socket that a restarted container has bound meanwhile is left alone', ours='W-11: removed')
def _(t):
	g = gate(t)
	r, b = t.fake('read x < %s; exit 0' % t.path('gate'))
	import socket
	os.unlink(b.attach_path)
	with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
		s.bind(b.attach_path)
		inode = os.stat(b.attach_path).st_ino
		os.write(g, b'go\n')
		r.end()
		tap.same(os.stat(b.attach_path).st_ino, inode)


@test('C-193 W-19', 'a persist directory that cannot be written prevents nothing else; the monitor\'s status tells',
	ours='W-19: everything after it is skipped')
def _(t):
	b = t.bundle('exit 0')
	r = t.conmon(*t.options(b, '--exit-dir', t.exits, '--persist-dir', t.path('no/dir'), '--exit-command', '/bin/touch',
		'--exit-command-arg', t.path('ran'), exits=False), start='seq')
	r.created()
	b.start()
	tap.same(t.exit_file(b), '0')
	tap.true(r.end() != 0, 'status')
	tap.true(os.path.exists(t.path('ran')), 'exit command')
	tap.true(not os.path.exists(b.attach_path), 'attach socket removed')


@test('C-193', 'an exit directory that cannot be written does not prevent the persist file or the exit command')
def _(t):
	b = t.bundle('exit 4')
	r = t.conmon(*t.options(b, '--exit-dir', t.path('no/dir'), '--persist-dir', t.persist, '--exit-command', '/bin/touch',
		'--exit-command-arg', t.path('ran'), exits=False), start='seq')
	r.created()
	b.start()
	tap.true(r.end() != 0, 'status')
	tap.same(t.persist_exit(), '4')
	tap.true(os.path.exists(t.path('ran')), 'exit command')


@test('C-196', 'killed by a signal: 128 plus its number everywhere', modes=BOTH)
def _(t):
	for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
		b = t.plain()
		r = t.create(b, runtime=t.runtime("write_pid(payload('kill -%d $$'))" % number))
		tap.same(t.exit_file(b), str(128 + number))
		tap.same(t.persist_exit(), str(128 + number))
		tap.same(r.end(), 128 + number)
		os.unlink(t.persist + '/exit')


@test('C-197 C-199 C-200', 'timeout: -1 in the files, status 255', modes=BOTH)
def _(t):
	b = t.bundle('while :; do sleep 1; done')
	r = t.create(b, '--timeout=1')
	b.start()
	tap.same(t.exit_file(b), '-1')
	tap.same(t.persist_exit(), '-1')
	tap.same(r.end(), 255)
	tap.until(lambda: not b.is_running(), 'the payload is dead')


@test('C-198', 'a payload that ends before the timeout is nothing special')
def _(t):
	r, b, c = t.run('exit 6', '-T', '30')
	tap.same(t.exit_file(b), '6')
	tap.same(r.end(), 6)


@test('C-199', 'timeout of an exec: exact words, by both versions')
def _(t):
	for v1 in (True, False):
		b = t.plain()
		rt = t.runtime("write_pid(payload('while :; do sleep 1; done'))")
		argv = ['-c', b.id, '-r', rt, '-p', t.path('p%d' % v1), '-l', 'none', '-e', '--exec-process-spec', t.exec_spec('true'), '-T', '1']
		argv += ['--api-version', '1', '-u', 'x', '-b', b.path, '--full-attach'] if v1 else []
		r = t.conmon(*argv, '--sync', sync='pipe', start='stream')
		if v1:
			tap.true(r.message()['data'] > 0, 'pid')
		tap.same(r.raw_message(), b'{"%s": -1, "message": "command timed out"}\n' % (b'data' if v1 else b'exit_code'))
		r.sync_ended()
		tap.same(r.front_status(), 255)


@test('C-199', 'timeout kills the whole group of the payload')
def _(t):
	b = t.plain()
	rt = t.runtime("write_pid(payload('sleep 600 & echo $! > %s/child; wait' % DIR))")
	r = t.create(b, '-T', '1', runtime=rt)
	tap.same(r.end(), 255)
	child = int(t.text(t.path('child')))
	tap.until(lambda: not processes.is_alive(child), 'the payload\'s child is dead')


@test('C-199 W-22', 'a payload in the monitor\'s own group: only the payload is killed, and the end is told',
	ours='W-22: the monitor kills itself')
def _(t):
	b = t.plain()
	r = t.create(b, '-T', '1', runtime=t.runtime("write_pid(payload('while :; do sleep 1; done', session=False))"))
	tap.same(t.exit_file(b), '-1')
	tap.same(r.end(), 255)


@test('C-201 C-202 C-203', 'the exit command: its words, stdio, no other descriptors, cwd; the monitor outlives it', modes=BOTH)
def _(t):
	g = gate(t)
	prog = t.runtime("record(DIR + '/seen'); open(DIR + '/gate').read(1)", name='exit-program')
	r, b = t.fake('exit 5', '--exit-command', prog, '--exit-command-arg', '--root', '--exit-command-arg', 'a b', '--exit-command-arg',
		'')
	tap.until(lambda: os.path.exists(t.path('seen')), 'the exit command runs')
	tap.true(r.is_alive(), 'the monitor waits')
	seen = json.loads(t.text(t.path('seen')))
	tap.same(seen['argv'], [prog, '--root', 'a b', ''])
	tap.same([seen['fds'][n] for n in '012'], ['/dev/null'] * 3)
	extra = {fd: what for fd, what in seen['fds'].items() if int(fd) > 2 and 'seen' not in what and '/proc/' not in what
		 and 'exit-program' not in what}
	tap.same(extra, {}, 'other descriptors')
	tap.same(seen['cwd'], t.cwd)
	tap.same(seen['ppid'], r.monitor if conmonlab.REFERENCE else seen['ppid'], 'a child of the monitor')
	tap.true(seen['ppid'] in processes.family(r.monitor), 'a descendant of the monitor')
	os.write(g, b'x')
	tap.same(r.end(), 5)


@test('C-202 C-39 W-20', 'default signals and mask for the runtime and the exit command', ours='W-20: SIGPIPE ignored, signals blocked')
def _(t):
	prog = t.runtime("record(DIR + '/seen')", name='exit-program')
	b = t.plain()
	rt = t.runtime("record(DIR + '/seen-runtime'); write_pid(payload('exit 5'))")
	r = t.create(b, '--exit-command', prog, runtime=rt)
	r.end()
	python = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)	# Python ignores these itself
	for name in ('seen', 'seen-runtime'):
		s = json.loads(t.text(t.path(name)))
		tap.same((s['ignored'] & ~python & 0x7fffffff, s['blocked']), (0, 0), name)	# 32 and 33 are the C library's
	shell = exit_program(t, "grep SigIgn /proc/self/status > %s" % t.path('ignored'))
	b = t.bundle(['/bin/grep', 'SigIgn', '/proc/self/status'])
	r = t.create(b, '--exit-command', shell)
	b.start()
	r.end()
	tap.same(int(t.text(t.path('ignored')).split()[1], 16) & 0x7fffffff, 0, 'ignored in the exit command')
	tap.same(int(t.logged().split()[1], 16) & 0x7fffffff, 0, 'ignored in the container')


@test('C-203 C-205', 'the exit command\'s own status changes nothing; one that does not exist is no error')
def _(t):
	for prog in ('/bin/false', '/no/such/program'):
		r, b = t.fake('exit 6', '--exit-command', prog)
		tap.same(r.end(), 6)


@test('C-206', 'exit file and messages are published before the delay; the exit command runs after it')
def _(t):
	r, b = t.fake('exit 6', '--exit-command', '/bin/touch', '--exit-command-arg', t.path('ran'), '--exit-delay', '1')
	tap.same(t.exit_file(b), '6')
	r.sync_ended(3)
	tap.true(not os.path.exists(t.path('ran')) and r.is_alive(), 'the delay goes on')
	tap.same(r.end(), 6)
	tap.true(os.path.exists(t.path('ran')), 'it ran')


@test('C-204', 'daemons of the exit command are not the monitor\'s to wait for')
def _(t):
	g = gate(t)
	prog = exit_program(t, '(setsid sh -c "echo \\$\\$ > %s; read x < %s" &)' % (t.path('daemon'), t.path('gate')))
	r, b = t.fake('exit 6', '--exit-command', prog)
	tap.same(r.end(5), 6)
	os.write(g, b'go\n')


@test('C-203 W-24', 'an orphan that goes on living does not delay the monitor\'s end for ever', ours='W-24: waited for')
def _(t):
	g = gate(t)
	b = t.plain()
	rt = t.runtime("write_pid(payload('(setsid sh -c \"read x < %s/gate\" </dev/null >/dev/null 2>&1 &); exit 6' % DIR))")
	r = t.create(b, '--exit-command', '/bin/true', runtime=rt)
	tap.same(r.end(5), 6)
	os.write(g, b'go\n')


conmonlab.main()
