#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The journald driver (C-170 to C-178)."""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from journal import Journal, private_run	# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402

private_run()
OWN = ('CODE_FILE', 'CODE_LINE', 'CODE_FUNC')


def logged(t, script, *extra, **how):
	"""What arrives in the journal from a container that runs @script."""
	j = Journal(t)
	r, b, c = t.run(script, *extra, log=how.pop('log', 'journald'), **how)
	j.drain_while(r)
	r.end()
	j.run, j.bundle = r, b
	return j


@test('C-170', 'the fields, in order, without tag', modes=BOTH)
def _(t):
	j = logged(t, 'echo out; echo err >&2')
	full = j.bundle.id.encode()
	for e in j.entries:
		err = dict(e)['MESSAGE'] == b'err\n'
		tap.same([f for f in e if f[0] not in OWN], [('MESSAGE', b'err\n' if err else b'out\n'), ('CONTAINER_ID_FULL', full),
			('PRIORITY', b'3' if err else b'6'), ('CONTAINER_ID', full[:12]),
			('CONTAINER_NAME', b'name-' + full[:6]), ('SYSLOG_IDENTIFIER', b'name-' + full[:6])])
	tap.same(len(j.entries), 2)


@test('C-170', 'with a tag')
def _(t):
	j = logged(t, 'echo out', '--log-tag', 'täg')
	tap.same(j.field('CONTAINER_TAG'), ['täg'.encode()])
	tap.same(j.field('SYSLOG_IDENTIFIER'), ['täg'.encode()])


@test('C-170', 'with neither tag nor name the identifier is the short id')
def _(t):
	j = Journal(t)
	b = t.plain()
	r = t.conmon('--api-version', '1', '-c', b.id, '-u', b.id, '-r', t.runtime("write_pid(payload('echo x'))"), '-b', b.path,
		'-p', b.pidfile, '--full-attach', '-P', t.path('cp'), '-l', 'journald:ignored')
	r.created()
	r.end()
	j.drain()
	tap.same(j.field('SYSLOG_IDENTIFIER'), [b.id[:12].encode()])
	tap.same(j.field('CONTAINER_NAME'), [None])


@test('C-170', 'labels, verbatim', ours='newer than 2.1.6')
def _(t):
	j = logged(t, 'echo out', '--log-label', 'ONE=1 and', '--log-label', 'A_2=')
	tap.same([j.field('ONE'), j.field('A_2')], [[b'1 and'], [b'']])


@test('C-171', 'the sender is a conmon process')
def _(t):
	j = Journal(t)
	b = t.bundle('echo out; read x < /shared/go')
	b.fifo()
	r = t.create(b, log='journald')
	b.start()
	j.wait(1)
	pid, uid, gid = j.credentials[0]
	tap.same((uid, gid), (0, 0))
	tap.true(pid in processes.family(r.monitor) and processes.comm(pid) == 'conmon', 'sender %d' % pid)
	b.delete()
	r.end()


@test('C-172', 'an incomplete line waits for its newline, each stream for itself')
def _(t):
	j = Journal(t)
	b = t.bundle("printf 'a '; printf 'x ' >&2; echo done > /shared/half; read x < /shared/go; echo b; echo y >&2")
	gate = b.fifo()
	r = t.create(b, log='journald')
	c = t.attach(b)
	b.start()
	c.read_until(b'a ')
	b.wait_file('half')
	tap.same(j.drain(), [])
	os.write(gate, b'go\n')
	r.end()
	j.drain()
	tap.same(sorted(j.field('MESSAGE')), [b'a b\n', b'x y\n'])
	tap.same(j.field('CONTAINER_PARTIAL_MESSAGE'), [None, None])


@test('C-172', 'a long line: partial entries of at most 16383 bytes, the last one not marked')
def _(t):
	j = logged(t, 'head -c 100000 /dev/zero | tr "\\0" z; echo; echo short')
	messages = j.field('MESSAGE')
	tap.same(b''.join(messages), b'z' * 100000 + b'\nshort\n')
	tap.true(max(len(m) for m in messages) <= 16384, 'size of an entry: %d' % max(len(m) for m in messages))
	for m, partial in zip(messages, j.field('CONTAINER_PARTIAL_MESSAGE')):
		tap.same(partial, None if m.endswith(b'\n') else b'true', 'mark of %r' % m[-20:])


@test('C-173', 'at the end an incomplete line is a partial entry without newline; an empty line is an entry')
def _(t):
	j = logged(t, "echo; printf tail")
	tap.same(j.field('MESSAGE'), [b'\n', b'tail'])
	tap.same(j.field('CONTAINER_PARTIAL_MESSAGE'), [None, b'true'])


@test('C-173', '--no-container-partial-message leaves the mark out', ours='newer than 2.1.6')
def _(t):
	j = logged(t, "printf tail", '--no-container-partial-message')
	tap.same(j.field('MESSAGE'), [b'tail'])
	tap.same(j.field('CONTAINER_PARTIAL_MESSAGE'), [None])


@test('C-174', 'a priority prefix is taken off and obeyed, on both streams', ours='newer than 2.1.6')
def _(t):
	j = logged(t, "for i in 0 1 2 3 4 5 6 7; do echo \"<$i>line\"; done; sync; echo '<4>warn' >&2")
	seen = sorted(zip(j.field('PRIORITY'), j.field('MESSAGE')))
	tap.same(seen, sorted([(b'%d' % i, b'line\n') for i in range(8)] + [(b'4', b'warn\n')]))


@test('C-174', 'whatever else begins with < is text')
def _(t):
	words = ('<8>', '<>', '<<0>>', '<10>', '< 0>', '<0', '<a>', '0>')
	j = logged(t, '; '.join("echo '%s'" % w for w in words))
	tap.same(j.field('MESSAGE'), [w.encode() + b'\n' for w in words])
	tap.same(set(j.field('PRIORITY')), {b'6'})


@test('C-174 W-17', 'a prefix in a line that is read in several pieces; and not in the middle of a long one',
	ours='W-17; newer than 2.1.6')
def _(t):
	b = t.bundle("printf '<'; touch /shared/a; read x < /shared/go; printf '3'; touch /shared/b; read x < /shared/go; echo '>text'; "
		"head -c 8192 /dev/zero | tr '\\0' q; touch /shared/c; read x < /shared/go; echo '<2>more'")
	gate = b.fifo()
	j = Journal(t)
	r = t.create(b, log='journald')
	b.start()
	for name in 'abc':
		b.wait_file(name)
		os.write(gate, b'go\n')
	j.drain_while(r)
	tap.same((j.field('PRIORITY')[0], j.field('MESSAGE')[0]), (b'3', b'text\n'))
	tap.same(b''.join(j.field('MESSAGE')[1:]), b'q' * 8192 + b'<2>more\n')
	tap.same(set(j.field('PRIORITY')[1:]), {b'6'})


@test('C-176', 'binary bytes are kept')
def _(t):
	j = logged(t, r"printf 'a\0b\1\377\n'")
	tap.same(j.field('MESSAGE'), [b'a\0b\1\xff\n'])


@test('C-138 C-159', 'journald and a k8s-file together; limits are the file\'s alone')
def _(t):
	j = logged(t, 'for i in 1 2 3 4 5 6; do echo "line $i"; done', '-l', 'journald:', '--log-global-size-max', '60',
		'--log-tag', 'x', log='k8s-file:' + t.log)
	tap.same(j.field('MESSAGE'), [b'line %d\n' % i for i in range(1, 7)])
	tap.same(t.logged(), b'line 1\nline 2\n')


@test('C-177', 'no journal: the container goes on')
def _(t):
	r, b, c = t.run('seq 5000; exit 3', '-l', 'journald', log='k8s-file:' + t.log)
	tap.same(r.end(), 3)
	tap.same(t.logged(), b''.join(b'%d\n' % i for i in range(1, 5001)))


@test('C-177 C-121', 'a journal that does not read delays neither the file nor, for ever, the exit',
	ours='2.1.6 blocks in its send')
def _(t):
	j = Journal(t)
	r, b, c = t.run('seq 20000; exit 3', '-l', 'journald', log='k8s-file:' + t.log)
	t.wait_logged(b'20000\n', seconds=15)
	tap.same(t.exit_file(b, 15), '3')
	tap.same(r.end(), 3)
	tap.true(j, '')


@test('C-170 C-171 C-176', 'a real journald stores it, journalctl shows it', deadline=40)
def _(t):
	daemon = '/lib/systemd/systemd-journald'
	if not os.access(daemon, os.X_OK):
		raise tap.Skip('no systemd-journald')
	for d in ('/run/log', '/var/log/journal'):
		if os.path.isdir(d):
			processes.mount('tmpfs', d, 'tmpfs')
			t.mounts.append(d)
	os.makedirs('/run/log/journal', exist_ok=True)
	pid = processes.spawn([daemon])
	tap.until(lambda: os.path.exists('/run/systemd/journal/socket'), 'journald listens')
	try:
		b = t.bundle('for i in 1 2 3; do echo "line $i"; done; read x < /shared/go; printf tail')
		gate = b.fifo()
		r = t.create(b, log='journald')
		b.start()

		def entries():
			p = subprocess.run(['journalctl', '-D', '/run/log/journal', '-o', 'json', 'CONTAINER_ID_FULL=' + b.id],
				stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
			return [json.loads(line) for line in p.stdout.splitlines()]
		tap.until(lambda: len(entries()) == 3, 'three entries, journald having looked at the living sender', 10)
		os.write(gate, b'go\n')
		r.end()
		tap.until(lambda: len(entries()) == 4, 'four entries', 10)
		got = entries()
		text = lambda m: bytes(m).decode() if isinstance(m, list) else m
		tap.same([text(e['MESSAGE']).rstrip('\n') for e in got], ['line 1', 'line 2', 'line 3', 'tail'])
		tap.same({(e['_COMM'], e['_UID'], e['CONTAINER_NAME']) for e in got[:3]}, {('conmon', '0', 'name-' + b.id[:6])})
	finally:
		processes.kill(pid, 15)
		processes.wait(pid)
		for name in os.listdir('/run/systemd/journal'):
			path = '/run/systemd/journal/' + name
			shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


conmonlab.main()
