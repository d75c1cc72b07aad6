# SPDX-License-Identifier: Apache-2.0
"""The same with Podman 4.3.1 in between, as root and as an ordinary user."""
import os
import random
import shlex
import subprocess
import threading
import time

import network_rig
import world
from world import DEADLINE, until

LIBRARY = os.path.join(world.TOP, 'scripts', 'lib.bash')
NAMES = ('CONMON', 'HELPER', 'USER_NAME', 'WORK', 'HOME_DIR', 'RUN_DIR', 'CONF', 'IMAGE')


class Service:
	"""One container: writes numbered lines, serves TCP and UDP through a published port, and can be entered."""

	def __init__(self, rig, name, seed, host_port):
		self.rig, self.name, self.seed, self.host_port = rig, name, seed, host_port
		self.code = random.Random(seed).randrange(1, 126)
		self.ended = self.quiet = False
		self.keeper = None
		self.threads = []

	def start(self):
		rig = self.rig
		rig.pod('run', '-d', '--name', self.name, '--network', 'slirp4netns:port_handler=slirp4netns',
			'-p', '%d:7000/tcp' % self.host_port, '-p', '%d:7000/udp' % self.host_port, '-v', rig.programs.load + ':/load:ro',
			rig.image, '/load', 'run', 'lines=%d' % self.seed, 'pause=100000', 'port=7000', 'code=%d' % self.code)
		self.cid, pid, self.log = rig.pod('inspect', '-f', '{{.ID}} {{.State.Pid}} {{.HostConfig.LogConfig.Path}}',
			self.name).split()
		self.splices = ' veth' in subprocess.run(['nsenter', '-t', pid, '-n', 'ip', '-d', 'link', 'show', 'tap0'],
			stdout=subprocess.PIPE).stdout.decode()
		until(lambda: network_rig.Rig.is_answered(rig, self, '127.0.0.1'), '%s answers' % self.name)
		self.groups = rig.groups_of(self.cid)
		for f, args in ((network_rig.Rig.tcp, ('127.0.0.1',)), (network_rig.Rig.tcp, (world.netlab.HOST4,)),
				(network_rig.Rig.udp, (world.netlab.HOST4,)), (network_rig.Rig.long, ())):
			self.threads.append(rig.threads.start(f, rig, self, *args))
		rig.live[self.name] = self
		return self

	def exec_once(self, n):
		code = (self.seed + n) % 126
		got = self.rig.pod_status('exec', self.name, '/load', 'once', str(self.seed + n), '20', str(code))
		if got != code:
			self.rig.book.breach('wrong exit codes', '%s: exec gave %d, should be %d' % (self.name, got, code))
		self.rig.book.count('podman exec')

	def stop(self):
		rig, book = self.rig, self.rig.book
		self.ended = True
		for t in self.threads:
			t.join(40)
		rig.pod('kill', '-s', 'TERM', self.name, check=False)
		got = rig.pod('wait', self.name, check=False).strip()
		if got != str(self.code):
			book.breach('wrong exit codes', '%s: podman wait says %s, should be %d' % (self.name, got, self.code))
		status = lambda: rig.pod('inspect', '-f', '{{.State.Status}} {{.State.ExitCode}}', self.name).strip()
		try:	# it is "stopped" until the exit command, Podman's own cleanup, has run
			until(lambda: status() == 'exited %d' % self.code, 'cleaned up')
		except TimeoutError:
			book.breach('containers disturbed', '%s: inspect says %r' % (self.name, status()))
		done = subprocess.run([rig.programs.load, 'check-k8s', str(self.seed), self.log], stdout=subprocess.PIPE)
		rig.judge_log(done, '%s (%s)' % (self.name, rig.level))
		rig.live.pop(self.name, None)
		rig.pod('rm', '-f', '-t', '0', self.name)
		book.count('containers of Podman run')


class Rig:
	def __init__(self, programs, book, threads, journal, rng, may_kill, mode):
		self.level = 'podman-' + mode
		self.mode, self.programs, self.book, self.threads, self.journal = mode, programs, book, threads, journal
		self.rng, self.may_kill, self.stopping = random.Random(rng.random()), may_kill, False
		self.conmon, self.helper = world.restage(programs, self.level)
		self.live = {}
		self.n = 0
		import conmon_rig
		self.judge_log = lambda done, what: conmon_rig.Rig.judge_log(self, done, what)
		self.exchange = network_rig.Rig.exchange
		self.cut = lambda guest, error: network_rig.Rig.cut(self, guest, error)
		self.set_up()

	def set_up(self):
		env = dict(os.environ, TANDEM_CONMON=self.conmon, TANDEM_NETNS_HELPER=self.helper, TANDEM_BUILDDIR=world.BUILD)
		script = '. %s; set -e; home_ensure; user_ensure; devices_ensure; image_ensure >&2; engine_setup %s >&2; ' \
			'for v in %s; do echo "$v=${!v}"; done' % (shlex.quote(LIBRARY), self.mode, ' '.join(NAMES))
		done = subprocess.run(['bash', '-c', script], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
			stderr=subprocess.PIPE)
		if done.returncode:
			raise RuntimeError('engine_setup %s: %s' % (self.mode, done.stderr.decode()[-600:]))
		self.env = dict(os.environ)
		self.env.update(line.split('=', 1) for line in done.stdout.decode().splitlines())
		self.image = self.env['IMAGE']
		self.state_dir = '/run/tandem' if self.mode == 'root' else os.path.join(os.path.dirname(self.env['RUN_DIR']), 'tandem')

	def shell(self, words, *args, **how):
		return subprocess.run(['bash', '-c', '. %s; %s' % (shlex.quote(LIBRARY), words), 'pod'] + list(args), env=self.env,
			stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)

	def pod(self, *args, check=True):
		done = self.shell('pod "$@"', *args)
		if check and done.returncode:
			raise RuntimeError('podman %s: %s' % (' '.join(args[:3]), done.stderr.decode()[-400:]))
		return done.stdout.decode()

	def pod_status(self, *args):
		return self.shell('pod "$@"', *args).returncode

	# --- load ---

	def start(self):
		for i in range(2):
			self.threads.start(self.lives, i)

	def lives(self, slot):
		while not self.stopping:
			self.n += 1
			port = (8300 if self.mode == 'root' else 8400) + slot
			service = Service(self, 'c%d-%d' % (slot, self.n), self.rng.randrange(1, 1 << 30), port).start()
			end = time.monotonic() + self.rng.uniform(6, 15)
			n = 0
			while time.monotonic() < end and not self.stopping:
				batch = [threading.Thread(target=self.exec_one, args=(service, n + k)) for k in range(2)]
				n += 2
				for t in batch:
					t.start()
				for t in batch:
					t.join(60)
			service.stop()

	def exec_one(self, service, n):
		try:
			service.exec_once(n)
		except Exception as e:	# noqa: B902
			self.book.fail('%s: exec: %s' % (self.level, e))

	# --- kills ---

	def state_of(self, cid):
		state = {}
		try:
			with open(os.path.join(self.state_dir, 'conmon-%s.state' % cid)) as f:
				for line in f:
					key, _, value = line.rstrip('\n').partition('=')
					state[key] = value
		except OSError:
			pass
		return state

	def role(self, target, pid):
		if pid in world.running(self.helper):
			return 'helper ' + network_rig.Rig.role(target, pid)
		state = self.state_of(target.cid)
		for key in ('KEEPER', 'REAPER', 'HEIR', 'MONITOR'):
			if state.get(key + '_PID') == str(pid):
				return key.lower()
		return 'conmon'

	def groups_of(self, cid):
		"""The session of the container's conmon, and the process group of its helper."""
		keeper = int(self.state_of(cid)['KEEPER_PID'])
		conmon = world.stat_of(keeper)[3]
		mine = os.path.join('', cid + '.net')
		helper = [st[2] for p, st in world.running(self.helper).items() if mine in world.cmdline(p)]
		return conmon, helper[0] if helper else None

	@staticmethod
	def allows(roles, n):
		"""
		The monitor has none of the caller's capabilities, and Podman's clean-up, the exit command, needs them: of the three that have
		them never more than two are killed at a time (docs/survival.md).
		"""
		return 'helper' in roles or n == 4

	def groups(self):
		if not self.may_kill:
			return []
		found = []
		conmons, helpers = world.running(self.conmon), world.running(self.helper)
		for service in list(self.live.values()):
			sid, pgid = service.groups
			found.append((self.level, service, [p for p, st in conmons.items() if st[3] == sid]))
			# the janitor is no holder of anything: it only removes the link at the end
			found.append((self.level, service, [p for p, st in helpers.items() if st[2] == pgid and
				': janitor' not in world.cmdline(p)]))
		return found

	def stop(self):
		self.stopping = True

	def finish(self):
		try:
			until(lambda: not world.running(self.conmon) and not world.running(self.helper), 'all have ended', DEADLINE)
		except TimeoutError:
			for p in list(world.running(self.conmon)) + list(world.running(self.helper)):
				self.book.breach('left over', '%s: process %d %s' % (self.level, p, world.cmdline(p)[:100]))
				world.kill(p)
		running = self.pod('ps', '-q')
		if running:
			self.book.breach('left over', '%s: containers %s' % (self.level, running.split()))
		self.shell('engine_remove')
