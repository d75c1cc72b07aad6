#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The passthrough driver and out-of-memory (C-179 to C-187)."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402

MEMORY = 24 << 20
EAT = 'dd if=/dev/zero of=/dev/null bs=200M count=1'


@test('C-179', 'the container has conmon\'s own stdio; no attach socket, no FIFOs; a k8s-file beside it stays empty')
def _(t):
	b = t.bundle('cat; echo out; echo err >&2; exit 3')
	with open(t.path('in'), 'wb') as f:
		f.write(b'input\n')
	files = [open(t.path('in'), 'rb'), open(t.path('out'), 'wb'), open(t.path('err'), 'wb')]
	r = t.create(b, '-l', 'k8s-file:' + t.log, log='passthrough', fds={n: f.fileno() for n, f in enumerate(files)})
	for f in files:
		f.close()
	tap.same(sorted(os.listdir(b.path)), ['config.json', 'pidfile'])
	b.start()
	tap.same(r.end(), 3)
	tap.same(open(t.path('out'), 'rb').read(), b'input\nout\n')
	tap.same(open(t.path('err'), 'rb').read(), b'err\n')
	tap.same(os.path.getsize(t.log), 0)


@test('C-179', 'the monitor itself lets go of the invoker\'s stdio once the runtime was forked')
def _(t):
	b = t.bundle('exec >/dev/null 2>&1 </dev/null; touch /shared/closed; read x < /shared/go; exit 3')
	gate = b.fifo()
	r = t.create(b, log='passthrough')
	b.start()
	b.wait_file('closed')
	r.output_ended(1)
	r.output_ended(2)
	os.write(gate, b'go\n')
	tap.same(r.end(), 3)


@test('C-179', 'stdio that is a terminal is passed on (passthrough-tty)', ours='newer than 2.1.6')
def _(t):
	b = t.bundle('[ -t 0 ] && [ -t 1 ] && echo both; exit 3')
	master, slave = os.openpty()
	t.own_fd(master)
	r = t.create(b, log='passthrough', fds={0: slave, 1: slave, 2: slave})
	b.start()
	tap.same(r.end(), 3)
	os.close(slave)
	tap.same(os.read(master, 100), b'both\r\n')


@test('C-180', 'failure: the runtime\'s words went to the invoker, the message has no text', ours='2.1.6 sends nothing')
def _(t):
	b = t.plain()
	r = t.start_conmon(b, log='passthrough', runtime=t.runtime("say('my words\\n'); sys.exit(1)"))
	tap.same(r.raw_message(), b'{"data": -1}\n')
	tap.same(r.end(), 1)
	tap.has(r.err(), 'my words\n')


@test('C-181', 'none: output is read and dropped, attach clients still get it, the container never blocks', modes=BOTH)
def _(t):
	r, b, c = t.run('seq 100000; exit 3', log='none', attach=True)
	tap.same(c.read_end(), b''.join(b'%d\n' % i for i in range(1, 100001)))
	tap.same(r.end(), 3)
	b = t.bundle('seq 100000; exit 3')
	r = t.create(b, log='none')
	b.start()
	tap.same(r.end(), 3)


def limited(t, script, *extra, **how):
	"""A container with little memory, its bundle being the working directory as with every engine."""
	b = t.bundle(script, memory=MEMORY)
	how.setdefault('cwd', b.path)
	r = t.create(b, *extra, **how)
	b.start()
	return r, b


@test('C-182 C-183 C-185 C-187', 'the init process is killed: 137, and an empty oom file in both directories before the exit file')
def _(t):
	r, b = limited(t, 'exec ' + EAT)
	tap.same(t.exit_file(b, 20), '137')
	for d in (t.persist, b.path):
		tap.same(os.path.getsize(os.path.join(d, 'oom')), 0, d)
		if not conmonlab.REFERENCE:		# which keeps the umask it was given
			tap.same(t.mode(os.path.join(d, 'oom')), 0o644)
	r.end()


@test('C-182', 'in the bundle though the working directory is another; there never', ours='2.1.6 puts it into the working directory')
def _(t):
	r, b = limited(t, 'exec ' + EAT, cwd=t.cwd)
	tap.same(t.exit_file(b, 20), '137')
	tap.true(os.path.exists(b.path + '/oom'), 'oom file in the bundle')
	tap.same(os.listdir(t.cwd), [])
	r.end()


@test('C-183 C-185', 'a child is killed: the container\'s own status, and the oom file')
def _(t):
	with open(t.persist + '/oom', 'w') as f:
		f.write('old')
	r, b = limited(t, EAT + '; exit 5')
	tap.same(t.exit_file(b, 20), '5')
	tap.true(os.path.exists(os.path.join(b.path, 'oom')), 'oom file')
	tap.same(r.end(), 5)


@test('C-183', 'no oom, no file, also when the container is killed')
def _(t):
	b = t.bundle('read x < /shared/go', memory=MEMORY)
	b.fifo()
	r = t.create(b)
	b.start()
	b.kill(9)
	tap.same(t.exit_file(b), '137')
	r.end()
	tap.true(not os.path.exists(t.persist + '/oom') and not os.path.exists(b.path + '/oom'), 'no oom file')


@test('C-186', 'exec: the oom files go to the session directory and its persist directory')
def _(t):
	b = t.bundle('read x < /shared/go', memory=MEMORY)
	b.fifo()
	main = t.create(b, exits=False, cwd=b.path)
	b.start()
	session = t.path('session')
	os.makedirs(session + '/persist')
	os.mkdir(session + '/exit')
	r = t.conmon('--api-version', '1', '-c', b.id, '-u', 's' * 64, '-r', conmonlab.oci.RUNC, '-b', session, '-p', session + '/pid',
		'-n', 'x', '--exit-dir', session + '/exit', '--persist-dir', session + '/persist', '--full-attach', '--runtime-arg',
		'--root=' + t.runc_root, '-l', 'none', '-e', '--exec-process-spec', t.exec_spec('exec ' + EAT), '-P', session + '/cp',
		start='seq', cwd=session)
	tap.true(r.message()['data'] > 0, 'pid')
	tap.same(r.message(20), {'data': 137})
	tap.true(os.path.exists(session + '/oom') and os.path.exists(session + '/persist/oom'), 'oom files')
	r.end()
	b.delete()
	main.end()


@test('C-185 C-187', 'no memory cgroup to watch is no concern of the container')
def _(t):
	r, b = t.fake('echo x; exit 4')
	tap.same(r.end(), 4)
	tap.true(not os.path.exists(t.persist + '/oom'), 'no oom file')


class Unified:
	"""cgroup v2 as /sys/fs/cgroup, and a payload in a group there whose memory.events the test writes."""

	def __init__(self, t, events='low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n'):
		self.t = t
		other = t.path('cgroup2')
		os.mkdir(other)
		try:
			processes.mount('none', other, 'cgroup2')
			t.mounts.append(other)
			processes.mount('none', '/sys/fs/cgroup', 'cgroup2')
		except OSError as e:
			raise tap.Skip('cgroup v2 cannot be mounted: %s' % e)
		t.mounts.append('/sys/fs/cgroup')
		self.name = 'contract-' + t.ident()[:16]
		self.group = os.path.join(other, self.name)
		os.mkdir(self.group)
		t.groups.append('/sys/fs/cgroup/unified/' + self.name)
		self.directory = '/sys/fs/cgroup/' + self.name
		processes.mount('tmpfs', self.directory, 'tmpfs')
		t.mounts.insert(-1, self.directory)
		self.events = self.directory + '/memory.events'
		if events is not None:
			self.write(events)
		os.mkfifo(t.path('gate'))
		self.gate = t.own_fd(os.open(t.path('gate'), os.O_RDWR))
		self.b = t.plain()
		rt = t.runtime("p = payload('read x < %%s/gate; exit 3' %% DIR)\nopen(%r, 'w').write(str(p))\nwrite_pid(p)"
			% (self.group + '/cgroup.procs'))
		self.r = t.create(self.b, runtime=rt, cwd=self.b.path)

	def write(self, text):
		"""In place, as the kernel changes it: the watch is on the file."""
		with open(self.events, 'r+' if os.path.exists(self.events) else 'w') as f:
			f.write(text)
			f.truncate()

	def has_oom(self):
		return os.path.exists(self.t.persist + '/oom') and os.path.exists(self.b.path + '/oom')

	def end(self):
		os.write(self.gate, b'go\n')
		tap.same(self.r.end(), 3)


@test('C-184', 'cgroup v2: oom_kill in memory.events makes the files while the container runs',
	ours='2.1.6 does not find the group on a host that has cgroup v1, too')
def _(t):
	u = Unified(t)
	u.write('low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\n')
	tap.until(u.has_oom, 'oom files')
	u.end()


@test('C-184 W-26', 'cgroup v2: changes of other counters do not end the watch', ours='W-26: it is dropped')
def _(t):
	u = Unified(t)
	for n in range(1, 4):
		u.write('low 0\nhigh %d\nmax 0\noom 0\noom_kill 0\n' % n)
	used = u.r.cpu_while(0.2)		# time to look at those
	tap.true(used < 150, '%d ms of CPU' % used)
	tap.true(not os.path.exists(t.persist + '/oom'), 'no oom yet')
	u.write('low 0\nhigh 4\nmax 0\noom 1\noom_kill 0\n')
	tap.until(u.has_oom, 'oom files')
	u.end()


@test('C-184 C-183', 'cgroup v2: no oom, no file; malformed numbers are skipped; a group without memory is no error')
def _(t):
	u = Unified(t)
	u.write('low 0\nhigh 1\noom x\noom_kill\noom_kill -\n')
	u.end()
	tap.true(not os.path.exists(t.persist + '/oom') and not os.path.exists(u.b.path + '/oom'), 'no oom file')


@test('C-184', 'cgroup v2: no memory.events at all is no error')
def _(t):
	u = Unified(t, events=None)
	u.end()
	tap.true(not os.path.exists(t.persist + '/oom'), 'no oom file')


conmonlab.main()
