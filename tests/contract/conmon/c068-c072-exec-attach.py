#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The handshake of --exec-attach (C-68 to C-72)."""
import json
import os
import select
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import attachclient	# noqa: E402
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402


def session(t, cid, script='exit 0', *extra, runtime=None, terminal=False, exits=False, **how):
	"""podman exec: what it passes, with a session directory of its own."""
	directory = t.path('session%d' % len(t.runs))
	os.mkdir(directory)
	t.give(directory)
	argv = ['--api-version', '1', '-c', cid, '-u', 's' * 64, '-r', runtime or conmonlab.oci.RUNC, '-b', directory,
		'-p', directory + '/exec_pid', '-n', 'name', '--exit-dir', t.exits, '--full-attach']
	if runtime is None:
		argv += ['--runtime-arg', '--root=' + t.runc_root]
	argv += ['-l', 'none', '--log-level', 'warn'] + (['-t'] if terminal else []) + list(extra)
	argv += ['-e', '--exec-attach', '--exec-process-spec', t.exec_spec(script, terminal=terminal), '-P',
		directory + '/conmon.pid']
	how.setdefault('start', 'seq')
	how.setdefault('attach', 'seq')
	r = t.conmon(*argv, cwd=directory, **how)
	r.path = directory
	return r


def container(t):
	b = t.bundle('read x < /shared/go')
	b.fifo()
	main = t.create(b, exits=False)
	b.start()
	b.main = main
	return b


def ended(b):
	b.delete()
	b.main.end()


@test('C-68', 'without _OCI_ATTACHPIPE: said on stderr by the monitor, status 1')
def _(t):
	r = session(t, 'c' * 64, runtime=t.runtime('sys.exit(1)'), attach=None)
	r.front_status()
	tap.until(lambda: 'attach specified but _OCI_ATTACHPIPE was not' in r.err(), 'words on stderr')
	tap.until(lambda: not processes.everyone(), 'the monitor ends')


@test('C-69 C-71', 'the sequence: go, attach message, attach, go, pid, status', modes=BOTH)
def _(t):
	b = container(t)
	r = session(t, b.id, 'read line; echo "got $line"; exit 21', '-i')
	tap.same(r.front_status(), 0)
	tap.same(r.raw_message(fd=r.attach_pipe), b'{"data": 0}\n')
	c = attachclient.Client(r.path + '/attach')
	t.clients.append(c)
	r.go()
	tap.true(r.message()['data'] > 0, 'pid')
	c.send('one\n')
	c.half_close()
	tap.same(c.read_end(), b'got one\n')
	tap.same(r.message(), {'data': 21})
	r.sync_ended()
	tap.same(r.raw_message(fd=r.attach_pipe), b'', 'nothing else on the attach pipe')
	tap.same(r.end(), 21)
	tap.same(t.text(os.path.join(t.exits, b.id)), '21')
	ended(b)


@test('C-69', 'the first bytes of a quick exec session reach the client that attached before the second go')
def _(t):
	b = container(t)
	for n in range(4):
		r = session(t, b.id, 'echo out; echo err >&2; exit %d' % n)
		r.raw_message(fd=r.attach_pipe)
		c = attachclient.Client(r.path + '/attach')
		t.clients.append(c)
		r.go()
		c.read_end()
		tap.same(c.out, {2: b'out\n', 3: b'err\n'})
		tap.true(r.message()['data'] > 0, 'pid')
		tap.same(r.message(), {'data': n})
		tap.same(r.end(), n)
		os.unlink(os.path.join(t.exits, b.id))
	ended(b)


@test('C-53 C-69', 'on a byte stream, many bytes at once are one go, not two; the end of file is the second')
def _(t):
	rt = t.runtime("record(DIR + '/seen')\nwrite_pid(payload('exit 0'))")
	r = session(t, 'c' * 64, runtime=rt, start='stream', go=False)
	r.go(b'many bytes')
	r.raw_message(fd=r.attach_pipe)
	r.front_status()
	waiting = tap.until(lambda: [p for p in processes.family(r.monitor) if processes.is_blocked(p)], 'somebody waits')
	tap.true(waiting, '')
	tap.true(not os.path.exists(t.path('seen')), 'the runtime was not run on the first token')
	r.close_start()
	tap.true(r.message()['data'] > 0, 'pid')
	tap.same(r.message(), {'data': 0})
	tap.same(r.end(), 0)


@test('C-70', 'the runtime is not executed before the second go')
def _(t):
	rt = t.runtime("record(DIR + '/seen')\nwrite_pid(payload('exit 0'))")
	r = session(t, 'c' * 64, runtime=rt)
	r.raw_message(fd=r.attach_pipe)
	attachclient.connect(r.path + '/attach').close()
	tap.until(lambda: all(processes.is_blocked(p) for p in processes.family(r.monitor)), 'everybody waits')
	tap.true(not os.path.exists(t.path('seen')), 'runtime not executed yet')
	r.go()
	tap.true(r.message()['data'] > 0, 'pid')
	seen = json.loads(t.text(t.path('seen')))
	tap.true(not [f for f in seen['fds'].values() if f.startswith('socket:')], 'no socket in the runtime')
	tap.same(r.message(), {'data': 0})
	tap.same(r.end(), 0)


@test('C-70', 'without a start pipe the runtime runs right after the attach message')
def _(t):
	r = session(t, 'c' * 64, runtime=t.runtime("write_pid(payload('exit 6'))"), start=None)
	tap.same(r.raw_message(fd=r.attach_pipe), b'{"data": 0}\n')
	tap.true(r.message()['data'] > 0, 'pid')
	tap.same(r.message(), {'data': 6})
	tap.same(r.end(), 6)


@test('C-72', 'SIGTERM to the monitor between the two goes ends it with a failure', ours='2.1.6 sends no message')
def _(t):
	r = session(t, 'c' * 64, runtime=t.runtime("write_pid(payload('exit 0'))"))
	r.raw_message(fd=r.attach_pipe)
	r.front_status()
	tap.until(lambda: all(processes.is_blocked(p) for p in processes.family(r.monitor)), 'everybody waits')
	os.kill(r.monitor, signal.SIGTERM)
	tap.same(r.message()['data'], -1)
	tap.true(r.end() != 0, 'status')


def sized(t, text):
	b = container(t)
	# runc lets the command run before anybody has the terminal, so it looks until there is a size
	r = session(t, b.id, 'until [ "$(stty size 2>/dev/null)" ]; do :; done; stty size', '-i', terminal=True)
	r.raw_message(fd=r.attach_pipe)
	fd = os.open(r.path + '/ctl', os.O_WRONLY | os.O_NONBLOCK)
	os.write(fd, text)
	os.close(fd)
	c = attachclient.Client(r.path + '/attach')
	t.clients.append(c)
	r.go()
	tap.same(c.read_end(), b'33 77\r\n')
	tap.true(r.message()['data'] > 0, 'pid')
	tap.same(r.message(), {'data': 0})
	tap.same(r.end(), 0)
	ended(b)


@test('C-69 C-94', 'exec -t: a size sent before the second go is the size that the command sees')
def _(t):
	sized(t, b'1 33 77\n')


@test('C-94 C-130', 'exec -t: of several sizes sent in one write the last one wins', ours='2.1.6 keeps the first')
def _(t):
	sized(t, b'1 10 20\n1 33 77\n')


@test('C-93', 'exec -t -i: what a client sent before the console arrived is delivered')
def _(t):
	b = container(t)
	r = session(t, b.id, 'stty -echo; read a; echo "a=$a"', '-i', terminal=True)
	r.raw_message(fd=r.attach_pipe)
	c = attachclient.Client(r.path + '/attach')
	t.clients.append(c)
	c.send('early\n')
	r.go()
	tap.has(c.read_end(), b'a=early\r\n')
	tap.true(r.message()['data'] > 0, 'pid')
	tap.same(r.message(), {'data': 0})
	r.end()
	ended(b)


conmonlab.main()
