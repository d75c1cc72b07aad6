#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Modes together, diagnostics, and the callers' own command lines, argument for argument (C-214 to C-223)."""
import os
import re
import select
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import attachclient	# noqa: E402
import conmonlab	# noqa: E402
import k8slog		# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH, MS_BIND, MS_REC	# noqa: E402
from tap import test	# noqa: E402

RUNC = conmonlab.oci.RUNC


def podman_create(t, b, *extra):
	"""podman create (5.x where the reference can), in its order."""
	log = t.path('oci-log')
	argv = ['--api-version', '1', '-c', b.id, '-u', b.id, '-r', RUNC, '-b', b.path, '-p', b.pidfile, '-n', 'sad_name',
		'--exit-dir', t.exits, '--persist-dir', t.persist, '--full-attach', '--runtime-arg', '--root=' + t.runc_root, '-l',
		'k8s-file:' + t.log, '--log-level', 'warning', '--syslog', '--runtime-arg', '--log-format=json', '--runtime-arg', '--log',
		'--runtime-arg=' + log] + (['-t'] if b.terminal else []) + list(extra)
	argv += ['--conmon-pidfile', t.path('conmon.pid'), '--exit-command', '/bin/touch', '--exit-command-arg', t.path('cleaned')]
	return argv


def crio_create(t, b, *extra):
	"""CRI-O's create: cwd is the bundle, no LANG, descriptors 3 and 4, stream sockets."""
	argv = ['-b', b.path, '-c', b.id, '--exit-dir', t.exits, '-l', t.log, '--log-level', 'info', '-n', 'k8s_name', '-P',
		b.path + '/conmon-pidfile', '-p', b.pidfile, '--persist-dir', t.persist, '-r', RUNC, '--runtime-arg',
		'--root=' + t.runc_root, '--socket-dir-path', t.sockets, '--syslog', '-u', b.id, '--log-size-max', '0', *extra]
	env = {'PATH': '/usr/bin:/bin', 'CRI_O_EXTERNAL': '1', 'XDG_RUNTIME_DIR': t.path('xdg'), '_OCI_SYNCPIPE': '3', '_OCI_STARTPIPE': '4',
		'TMPDIR': t.tmp, 'LANG': None}
	return dict(sync='stream', start='stream', cwd=b.path, env=env), argv


@test('C-221 C-62', 'podman create, start, attach, cleanup', modes=BOTH)
def _(t):
	b = t.bundle('read x; echo "got $x"; exit 12')
	r = t.conmon(*podman_create(t, b, '-i', '--timeout=60', '--no-new-keyring'), start='seq', setup=lambda: os.setpgid(0, 0))
	r.created()
	tap.same(r.front_status(), 0)
	c = t.attach(b)
	b.start()
	c.send('word\n')
	c.half_close()
	tap.same(c.read_end(), b'got word\n')
	tap.same(r.end(), 12)
	tap.same([t.exit_file(b), t.persist_exit()], ['12', '12'])
	tap.true(os.path.exists(t.path('cleaned')), 'cleanup ran')


@test('C-221', 'podman create with the options of its development branch', ours='newer than 2.1.6')
def _(t):
	b = t.bundle('echo x', terminal=True)
	argv = podman_create(t, b, '--log-size-max', '100000', '--log-rotate', '--log-max-files', '2')
	r = t.conmon(*argv, start='seq')
	r.created()
	b.start()
	tap.same(r.end(), 0)
	tap.same(t.logged(), b'x\r\n')


@test('C-221 C-16 C-104 C-190', 'CRI-O create: version 0, no LANG, symlinked attach socket below a long path, FIFO writers that block', modes=BOTH)
def _(t):
	directory = t.path('/'.join(['overlay-containers-' + 'long' * 30] * 2))
	b = t.bundle('read x; echo "got $x"; exit 7', directory=directory)
	how, argv = crio_create(t, b, '--leave-stdin-open', '-i', '--no-pivot')
	r = t.conmon(*argv, **how)
	tap.same(r.message(), {'pid': b.pid})
	tap.same(r.front_status(), 0)
	tap.same(int(t.text(b.path + '/conmon-pidfile')), r.monitor)
	c = attachclient.Client(os.path.join(t.sockets, b.id, 'attach'), 'path')
	t.clients.append(c)
	with open(b.path + '/ctl', 'wb') as f:		# blocking open, as CRI-O does
		f.write(b'1 24 80\n')
	b.start()
	c.send('word\n')
	c.half_close()
	tap.same(c.read_end(), b'got word\n')
	tap.same(r.end(), 7)
	tap.same(t.persist_exit(), '7')
	tap.same(t.logged(), b'got word\n')


@test('C-221 C-16', 'CRI-O create: a name outside ASCII cannot be passed without LANG')
def _(t):
	b = t.plain()
	how, argv = crio_create(t, b)
	argv[argv.index('-n') + 1] = 'näme'
	r = t.conmon(*argv, go=False, **how)
	tap.same(r.front_status(), 1)
	tap.has(r.err() + r.out(), 'Invalid byte sequence in conversion input')


def exec_sync(t, b, script, *extra):
	"""CRI-O exec-sync: pre-created empty pid file and log, --sync, an ordinary pipe."""
	pidfile, log = t.path('exec-pid'), t.path('exec-log')
	for path in (pidfile, log):
		open(path, 'w').close()
		t.give(path)
	argv = ['-c', b.id, '-n', 'k8s_name', '-r', RUNC, '-p', pidfile, '-e', '-l', log, '--socket-dir-path', t.path('no/such/dir'),
		'--log-level', 'info', '--sync', '--log-global-size-max', '16777216', *extra, '-s', '--exec-process-spec',
		t.exec_spec(script, terminal='-t' in extra), '--runtime-arg', '--root=' + t.runc_root]
	r = t.conmon(*argv, sync='pipe', start='stream', cwd=b.path, env={'LANG': None})
	r.log = log
	return r


def container(t):
	b = t.bundle('read x < /shared/go')
	b.fifo()
	b.main = t.create(b, exits=False)
	b.start()
	return b


@test('C-221 C-222 C-80 C-148', 'CRI-O exec-sync: status, streams put together exactly, pipes at their end', modes=BOTH)
def _(t):
	b = container(t)
	r = exec_sync(t, b, "printf 'no newline'; echo err >&2; exit 5")
	tap.same(r.message(), {'exit_code': 5})
	r.sync_ended()
	r.output_ended(1)
	r.output_ended(2)
	tap.same(r.front_status(), 5)
	recs = k8slog.read(r.log)
	tap.same([k8slog.content(recs), k8slog.content(recs, 'stderr')], [b'no newline', b'err\n'])
	b.delete()
	b.main.end()


@test('C-221 C-200', 'CRI-O exec-sync that times out: the exact words, status -1')
def _(t):
	b = container(t)
	r = exec_sync(t, b, 'echo before; while :; do sleep 1; done', '-T', '1')
	tap.same(r.raw_message(), b'{"exit_code": -1, "message": "command timed out"}\n')
	tap.same(r.front_status(), 255)
	b.delete()
	b.main.end()


@test('C-221', 'CRI-O exec-sync with a terminal')
def _(t):
	b = container(t)
	r = exec_sync(t, b, 'echo tty; exit 6', '-t')
	tap.same(r.message(), {'exit_code': 6})
	tap.same(r.front_status(), 6)
	tap.same(k8slog.content(k8slog.read(r.log)), b'tty\r\n')
	b.delete()
	b.main.end()


@test('C-214', 'several exec sessions beside the container\'s own monitor')
def _(t):
	b = container(t)
	runs = []
	for n in range(4):
		session = t.path('session%d' % n)
		os.mkdir(session)
		argv = ['--api-version', '1', '-c', b.id, '-u', 's%d' % n, '-r', RUNC, '-b', session, '-p', session + '/pid', '-l', 'none',
			'--full-attach', '--runtime-arg', '--root=' + t.runc_root, '-e', '--exec-process-spec',
			t.exec_spec('read x < /shared/e%d; exit %d' % (n, n)), '-P', session + '/cp']
		b.fifo('e%d' % n)
		r = t.conmon(*argv, start='seq')
		tap.true(r.message()['data'] > 0, 'pid')
		runs.append(r)
	for n in (2, 0, 3, 1):
		with open(b.file('e%d' % n), 'w') as f:
			f.write('go\n')
		tap.same(runs[n].message(), {'data': n})
		tap.same(runs[n].end(), n)
	b.delete()
	b.main.end()


@test('C-215', 'exec: the end of the container kills the session, told as 137')
def _(t):
	b = container(t)
	r = exec_sync(t, b, 'touch /shared/up; while :; do sleep 1; done')
	b.wait_file('up')
	b.kill(9)
	tap.same(r.message(), {'exit_code': 137})
	tap.same(r.front_status(), 137)
	b.main.end()


@test('C-216', 'every log level is known, in any case of letters')
def _(t):
	for level in ('error', 'fatal', 'panic', 'warn', 'warning', 'info', 'debug', 'trace', 'WARN', 'Debug'):
		r, b = t.fake('exit 0', '--log-level', level)
		tap.same(r.end(), 0)
		tap.lacks(r.err(), 'No such log level')


@test('C-217 C-219', 'at the default level a healthy run prints nothing')
def _(t):
	r, b, c = t.run('echo x')
	r.end()
	tap.same([r.err(), r.out()], ['', ''])


@test('C-217 C-220', 'debug: lines of the form [conmon:d]: TEXT on the invoker\'s stderr')
def _(t):
	for level in ('debug', 'trace'):
		r, b = t.fake('exit 0', '--log-level', level)
		r.end()
		lines = r.err().splitlines()
		tap.true(lines, 'something was said at level ' + level)
		for line in filter(None, lines):		# 2.1.6 has empty ones
			tap.true(re.match(r'\[conmon:[dint]\]: .', line), 'form of %r' % line)


def private_dev(t):
	"""A /dev of our own, so that /dev/log is ours."""
	if os.path.ismount('/dev') and os.path.exists('/dev/.contract'):
		return
	new = t.path('dev')
	os.mkdir(new)
	processes.mount('/dev', new, None, MS_BIND | MS_REC)
	hold = t.path('hold')
	os.mkdir(hold)
	processes.mount('tmpfs', hold, 'tmpfs', 0, 'mode=755')
	for name in ('null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx'):
		st = os.stat('/dev/' + name)
		os.mknod(os.path.join(hold, name), st.st_mode, st.st_rdev)
		os.chmod(os.path.join(hold, name), 0o666)
	for name in ('pts', 'shm'):
		os.mkdir(os.path.join(hold, name))
		processes.mount('/dev/' + name, os.path.join(hold, name), None, MS_BIND)
	if os.path.islink('/dev/ptmx'):
		os.unlink(os.path.join(hold, 'ptmx'))
		os.symlink('pts/ptmx', os.path.join(hold, 'ptmx'))
	os.symlink('/proc/self/fd', os.path.join(hold, 'fd'))
	open(os.path.join(hold, '.contract'), 'w').close()
	processes.mount(hold, '/dev', None, MS_BIND | MS_REC)
	processes.umount(new)
	t.mounts += ['/dev', hold]


@test('C-218', '--syslog: the text is in the syslog, with program name, priority and id', race='format differs')
def _(t):
	private_dev(t)
	s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
	s.bind('/dev/log')
	t.clients.append(s)
	b = t.plain()
	r = t.start_conmon(b, '--syslog', runtime=t.runtime("say('no'); sys.exit(9)"))
	r.message()
	r.end()
	seen = []
	while select.select([s], [], [], 0)[0]:
		seen.append(s.recv(65536).decode('utf-8', 'replace'))
	mine = [x for x in seen if 'Failed to create container' in x]
	tap.same(len(mine), 1, 'lines about the failure in %r' % seen)
	tap.true(mine[0].startswith('<11>'), 'facility user, priority error: %r' % mine[0])
	tap.has(mine[0], 'conmon ' + b.id[:20] + ' <error>: ')
	tap.has(mine[0], 'exit status 9')


@test('C-219', 'trace logs the whole command line of the runtime', race='only where 2.1.6 reaches stderr')
def _(t):
	private_dev(t)
	s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
	if os.path.exists('/dev/log'):
		os.unlink('/dev/log')
	s.bind('/dev/log')
	t.clients.append(s)
	r, b = t.fake('exit 0', '--log-level', 'trace', '--syslog', '--runtime-arg', '--a-mark')
	r.end()
	seen = r.err()
	while select.select([s], [], [], 0)[0]:
		seen += s.recv(65536).decode('utf-8', 'replace')
	tap.has(seen, '--a-mark')
	tap.has(seen, '--pid-file')


@test('C-222 C-223', 'files of an earlier run, stale or missing, are no obstacle')
def _(t):
	b = t.bundle('echo x; exit 3')
	for name in ('attach', 'ctl', 'winsz', 'pidfile'):
		open(os.path.join(b.path, name), 'w').close()
	open(t.log, 'w').close()
	open(os.path.join(t.exits, b.id), 'w').close()
	os.unlink(os.path.join(t.exits, b.id))
	r = t.create(b)
	for name in ('attach', 'ctl', 'winsz'):
		os.unlink(os.path.join(b.path, name))
	b.start()
	tap.same(r.end(), 3)
	tap.same(t.exit_file(b), '3')


conmonlab.main()
