#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Selecting drivers, the k8s-file format and its limits (C-136 to C-159)."""
import datetime
import os
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import k8slog		# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402


def logs_to(t, value, *extra, script='echo line'):
	"""Run a payload with exactly this --log-path; the files that appeared in the working directory."""
	b = t.plain()
	argv = ['--api-version', '1', '-c', b.id, '-u', b.id, '-r', t.runtime('write_pid(payload(%r))' % script), '-b', b.path,
		'-p', b.pidfile, '--full-attach', '-P', t.path('cp')]
	values = [value] if isinstance(value, str) else value
	for v in values:
		argv += ['-l', v]
	r = t.conmon(*argv, *extra)
	r.created()
	tap.same(r.end(), 0)
	found = {}
	for name in sorted(os.listdir(t.cwd)):
		with open(os.path.join(t.cwd, name), 'rb') as f:
			found[name] = k8slog.content(k8slog.parse(f.read()))
		os.unlink(os.path.join(t.cwd, name))
	return found


@test('C-136 C-181', 'off, null and none log nothing, with or without a path')
def _(t):
	for value in ('off', 'null', 'none', 'none:', 'off:/tmp/x', 'null:y'):
		tap.same(logs_to(t, value), {}, value)


@test('C-136', 'a driver and path, a bare path, and a colon before the path')
def _(t):
	for value, name in (('k8s-file:one', 'one'), ('two', 'two'), ('./three', 'three'), (':none', 'none'),
			    (':journald', 'journald'), (os.path.join(t.cwd, 'abs'), 'abs')):
		tap.same(logs_to(t, value), {name: b'line\n'}, value)


@test('C-136 C-138', 'none beside a file does not cancel it; of several files only the last is used or made')
def _(t):
	tap.same(logs_to(t, ['none', 'k8s-file:a']), {'a': b'line\n'})
	tap.same(logs_to(t, ['k8s-file:a', 'none']), {'a': b'line\n'})
	tap.same(logs_to(t, ['k8s-file:a', 'b', 'k8s-file:c']), {'c': b'line\n'})


@test('C-139 W-32', 'further colons belong to the path', ours='W-32: cut at every colon')
def _(t):
	tap.same(logs_to(t, 'k8s-file:a:b'), {'a:b': b'line\n'})
	tap.same(logs_to(t, os.path.join(t.cwd, 'x:y')), {'x:y': b'line\n'})
	tap.same(logs_to(t, './p:q:r'), {'p:q:r': b'line\n'})


@test('C-140', '--log-allowlist-dir: inside any of them works, outside is refused', ours='newer than 2.1.6')
def _(t):
	os.makedirs(t.path('allowed/sub'))
	os.makedirs(t.path('allowed-not'))
	os.makedirs(t.path('other'))
	allow = ['--log-allowlist-dir', t.path('other'), '--log-allowlist-dir', t.path('allowed')]
	for where in ('allowed', 'allowed/sub', 'other'):
		logs_to(t, t.path(where) + '/log', *allow)
		tap.true(os.path.exists(t.path(where) + '/log'), where)
	os.symlink(t.path('allowed-not'), t.path('allowed/link'))
	for where in ('allowed-not', 'allowed/../allowed-not', 'allowed/link'):
		b = t.plain()
		r = t.conmon(*t.options(b, *allow, log=t.path(where) + '/log', runtime='/bin/true'), start='seq', go=False)
		tap.same(r.front_status(), 1, where)
		tap.true(r.err(), 'words')
	tap.same(os.listdir(t.path('allowed-not')), [])


@test('C-141 C-142 C-144', 'the exact layout: 45 bytes before the content, every byte of the line kept', modes=BOTH)
def _(t):
	r, b, c = t.run(r"printf 'a\n\n  b \r\n\0\1\377\n'; printf 'e 1\n' >&2")
	r.end()
	recs = t.records()
	tap.same([(x.tag, x.content) for x in recs if x.stream == 'stdout'],
		[('F', b'a'), ('F', b''), ('F', b'  b \r'), ('F', b'\0\1\xff')])
	tap.same([(x.tag, x.content) for x in recs if x.stream == 'stderr'], [('F', b'e 1')])
	for x in recs:
		tap.same(x.size - len(x.content) - 1, 45, 'bytes before the content')


@test('C-143', 'the time is the wall clock')
def _(t):
	before = datetime.datetime.now(datetime.timezone.utc)
	r, b = t.fake('echo x')
	r.end()
	after = datetime.datetime.now(datetime.timezone.utc)
	x = t.records()[0].time
	stamp = datetime.datetime.strptime(x[:26] + x[29:32] + x[33:], '%Y-%m-%dT%H:%M:%S.%f%z')
	slack = datetime.timedelta(milliseconds=20)
	tap.true(before - slack <= stamp <= after + slack, '%s not in %s … %s' % (stamp, before, after))


@test('C-145 C-146 C-147', 'a prompt without newline is there at once, as P; its end is F')
def _(t):
	b = t.bundle("printf 'name? '; read x < /shared/go; echo there")
	gate = b.fifo()
	r = t.create(b)
	b.start()
	t.wait_logged(b'name? ')
	recs = t.records()
	tap.same([(x.tag, x.content) for x in recs], [('P', b'name? ')])
	os.write(gate, b'go\n')
	r.end()
	tap.same([(x.tag, x.content) for x in t.records()], [('P', b'name? '), ('F', b'there')])


@test('C-146', 'long lines come in pieces of at most 8192 bytes')
def _(t):
	r, b, c = t.run('head -c 100000 /dev/zero | tr "\\0" y; echo; echo short')
	r.end()
	recs = t.records()
	tap.true(max(len(x.content) for x in recs) <= 8192, 'size of a piece')
	tap.same({x.tag for x in recs[:-2]}, {'P'})
	tap.same(t.logged(), b'y' * 100000 + b'\nshort\n')


@test('C-148', 'output without newline at the end: the last record is P, nothing is added')
def _(t):
	r, b, c = t.run("echo one; printf two")
	r.end()
	recs = t.records()
	tap.same((recs[-1].tag, recs[-1].content), ('P', b'two'))
	tap.same(t.logged(), b'one\ntwo')


@test('C-147', 'the two streams are put together each for itself')
def _(t):
	b = t.bundle("printf 'o1 '; read x < /shared/go; printf 'e1 ' >&2; read x < /shared/go; echo o2; read x < /shared/go; "
		"echo e2 >&2")
	gate = b.fifo()
	r = t.create(b)
	b.start()
	for stream, text in (('stdout', b'o1 '), ('stderr', b'e1 '), ('stdout', b'o2')):
		t.wait_logged(text, stream)
		os.write(gate, b'go\n')
	r.end()
	tap.same([t.logged(), t.logged('stderr')], [b'o1 o2\n', b'e1 e2\n'])


@test('C-150', 'an existing file is appended to, its mode kept')
def _(t):
	with open(t.log, 'wb') as f:
		f.write(b'2020-01-01T00:00:00.000000000+00:00 stdout F old\n')
	os.chmod(t.log, 0o604)
	r, b = t.fake('echo new')
	r.end()
	tap.same(t.logged(), b'old\nnew\n')
	tap.same(t.mode(t.log), 0o604)


@test('C-150', 'a new file has mode 0640', ours='0600 before 2.1.13')
def _(t):
	r, b = t.fake('echo new')
	r.end()
	tap.same(t.mode(t.log), 0o640)


@test('C-151', 'stdin is never logged')
def _(t):
	r, b, c = t.run('read x; echo over', '-i', attach=True)
	c.send('secret\n')
	c.read_end()
	r.end()
	tap.same(t.logged() + t.logged('stderr'), b'over\n')


@test('C-152 C-149 W-16', 'a full disk: no torn record, the container goes on, later records are whole',
	ours='W-16: a record is torn and later ones continue on its line')
def _(t):
	disk = t.tmpfs('disk', '512k')
	log, ballast = disk + '/log', disk + '/ballast'
	with open(ballast, 'wb') as f:
		f.write(bytes(448 << 10))
	b = t.bundle('i=0; while [ $i -lt 1500 ]; do echo "line $i of those that fill the disk"; i=$((i+1)); done; echo full > /shared/full; '
		'read x < /shared/go; echo after; exit 3')
	gate = b.fifo()
	r = t.create(b, log=log)
	c = t.attach(b)
	b.start()
	c.read_until(b'line 1499 ')
	b.wait_file('full')
	recs = t.records(log)		# strict: fails on any torn record
	tap.true(300 < len(recs) < 1500, 'records before the disk was full: %d' % len(recs))
	tap.same([x.content for x in recs], [b'line %d of those that fill the disk' % i for i in range(len(recs))])
	os.unlink(ballast)
	os.write(gate, b'go\n')
	tap.has(c.read_end(), b'after\n')
	tap.same(r.end(), 3)
	tap.same(t.records(log)[-1].content, b'after')


@test('C-153 C-154', 'everything the container wrote is in the log before the exit file appears', modes=BOTH)
def _(t):
	for extra in ((), ('--no-sync-log',)):
		b = t.bundle('i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done')
		r = t.create(b, *extra)
		b.start()
		t.exit_file(b)
		tap.same(t.logged(), b''.join(b'line %d\n' % i for i in range(3000)))
		r.end()
		os.unlink(t.log)


@test('C-155 C-156', '--log-size-max: the file is replaced before the record that does not fit')
def _(t):
	script = 'for i in 1 2 3 4 5 6 7; do echo "rec $i"; done'
	for limit, wanted in ((150, [b'rec 7']), (10, [b'rec 7']), (51 * 7, [b'rec %d' % i for i in range(1, 8)]),
			      (51 * 4, [b'rec 5', b'rec 6', b'rec 7'])):
		r, b = t.fake(script, '--log-size-max', limit)
		r.end()
		got = [x.content for x in t.records()]
		tap.same(got, wanted, 'with limit %d' % limit)
		tap.true(not os.path.exists(t.log + '.tmp') and not os.path.exists(t.log + '.1'), 'no other files')
		os.unlink(t.log)


@test('C-157', 'limits of 0 or less mean none')
def _(t):
	for limit in ('0', '-1', '-5'):
		r, b = t.fake('for i in 1 2 3 4 5 6 7; do echo "rec $i"; done', '--log-size-max', limit, '--log-global-size-max', limit)
		r.end()
		tap.same(len(t.records()), 7, limit)
		os.unlink(t.log)


@test('C-150 C-155', 'the size of an existing file counts', ours='since 2.1.10')
def _(t):
	with open(t.log, 'wb') as f:
		f.write(b'2020-01-01T00:00:00.000000000+00:00 stdout F old 1\n' * 2)
	r, b = t.fake('echo new 1', '--log-size-max', '120')
	r.end()
	tap.same([x.content for x in t.records()], [b'new 1'])


@test('C-158', '--log-global-size-max: the record that crosses it is the last; attach clients get all')
def _(t):
	script = 'i=0; while [ $i -lt 50 ]; do echo "record $i"; i=$((i+1)); done'
	r, b, c = t.run(script, '--log-global-size-max', '1000', attach=True)
	tap.same(c.read_end(), b''.join(b'record %d\n' % i for i in range(50)))
	r.end()
	recs = t.records()
	size = os.path.getsize(t.log)
	tap.true(1000 <= size < 1000 + 60, 'size %d' % size)
	tap.same([x.content for x in recs], [b'record %d' % i for i in range(len(recs))])


@test('C-168', 'other than regular files are never renamed over, limits are ignored for them', ours='W-15: 2.1.6 renames')
def _(t):
	fifo = t.path('fifo')
	os.mkfifo(fifo)
	end = t.own_fd(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))
	r, b = t.fake('for i in 1 2 3; do echo "rec $i"; done', '--log-size-max', '60', log=fifo)
	r.end()
	tap.true(stat.S_ISFIFO(os.lstat(fifo).st_mode), 'still a FIFO')
	tap.same([x.content for x in k8slog.parse(os.read(end, 65536))], [b'rec 1', b'rec 2', b'rec 3'])
	node = t.path('null')
	os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
	r, b = t.fake('for i in 1 2 3; do echo "rec $i"; done', '--log-size-max', '60', log=node)
	r.end()
	tap.true(stat.S_ISCHR(os.lstat(node).st_mode), 'still a device')


conmonlab.main()
