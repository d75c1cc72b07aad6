#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""conmon runs the network helper itself (--network-helper): one keeper each, one life.

  conmon-network.py [NAME…]	NAME is that of a test function without "test_"; CHAOS_SEED chooses other kills
"""
import os
import random
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import conmon_rig		# noqa: E402
import world			# noqa: E402
from ledger import Ledger	# noqa: E402
from world import until		# noqa: E402

PORT = 8123


class Networked(conmon_rig.Conmon):
	"""A container with a network namespace of its own and an echo server in it."""

	def create(self, *options, words=('code=7', 'port=7000')):
		self.exit_name = self.cid
		self.rig.write_bundle(self.dir, ['/load', 'run'] + list(words), False, ('pid', 'ipc', 'uts', 'mount', 'network'))
		self.launch('-l', 'k8s-file:' + self.path('log'), *options)
		st = world.stat_of(self.keeper)		# the session outlives a killed keeper; its end is what wait_end() waits for
		self.sid = st and st[3]
		return self.message()

	def helper_options(self, *more):
		words = ['-c', '--mtu=65520', '--enable-sandbox', '--enable-seccomp', '-p', '127.0.0.1:%d:7000' % PORT] + list(more)
		return ['--network-helper', self.rig.programs.helper] + [w for a in words for w in ('--network-helper-arg', a)]

	def helpers(self):
		return sorted(world.running(self.rig.programs.helper))


def answers():
	try:
		with socket.create_connection(('127.0.0.1', PORT), 2) as s:
			s.settimeout(2)
			s.sendall(b'hello')
			return s.recv(5) == b'hello'
	except OSError:
		return False


def refused():
	with socket.socket() as s:
		return s.connect_ex(('127.0.0.1', PORT)) != 0


def links_of(pid):
	with open('/proc/%d/net/dev' % pid) as f:
		return f.read()


def started(rig, name, *more):
	c = Networked(rig, name)
	first = c.create(*c.helper_options(*more))
	assert first and first.get('data', -1) > 0, first
	c.payload = first['data']
	return c


def finish(c, want=7):
	world.kill(c.payload, 15)
	c.wait_end(want, c.name)
	assert not c.helpers(), 'helper is left: %r' % [world.cmdline(p) for p in c.helpers()]
	assert refused(), 'port is still open'
	c.rig.runc('delete', '--force', c.cid, check=False)
	c.forget()


def test_created_when_ready(rig):
	"""the engine is told only when the network is ready, and the helper ends with the container"""
	c = started(rig, 'ready')
	assert 'tap0' in links_of(c.payload), 'no tap0 when the message came'
	assert not refused(), 'the port is not open when the message came'
	rig.runc('start', c.cid)
	until(answers, 'the port answers')
	finish(c)


def test_port_free_at_exit_file(rig):
	"""when the exit file is there the ports are free"""
	c = started(rig, 'free')
	rig.runc('start', c.cid)
	until(answers, 'the port answers')
	world.kill(c.payload, 15)
	until(lambda: os.path.exists(c.path('exits', c.exit_name)), 'exit file')
	assert refused(), 'port open after the exit file'
	finish(c)


def test_killed(rig):
	"""any process of either daemon may be killed, the port goes on answering"""
	c = started(rig, 'killed')
	rig.runc('start', c.cid)
	until(answers, 'the port answers')
	rng = random.Random(int(os.environ.get('CHAOS_SEED', '3')))
	for _ in range(20):
		pids = c.helpers()
		ours = sorted(p for p, st in world.running(rig.programs.conmon).items())
		pool = pids if rng.random() < 0.5 else ours
		if len(pool) >= 2 and all(world.works(p) for p in pool):
			world.kill(rng.choice(pool))
		assert not refused(), 'refused'
		until(lambda: len(c.helpers()) >= 2 and len(world.running(rig.programs.conmon)) >= 3, 'all are back')
		until(answers, 'the port answers again')
		time.sleep(0.05)
	finish(c)


def test_all_of_it_killed(rig):
	"""a helper that is gone altogether is started again, and the event says so"""
	c = started(rig, 'gone')
	rig.runc('start', c.cid)
	until(answers, 'the port answers')
	world.kill_all(c.helpers)
	until(answers, 'the port answers again')
	def told():
		found = [e['MESSAGE'] for e in rig.journal.entries('SYSLOG_IDENTIFIER=conmon', 'CONTAINER_ID_FULL=' + c.cid)
			if 'MESSAGE_ID' in e]
		return any('works again' in m for m in found) and any('helper of the container ended' in m for m in found)
	until(told, 'both events')
	finish(c)


def test_events_name_the_container(rig):
	"""the helper's own events carry the container's id and name"""
	c = started(rig, 'named')
	workers = [p for p in c.helpers() if ': worker' in world.cmdline(p)]
	world.kill(workers[0])
	def told():
		return rig.journal.entries('SYSLOG_IDENTIFIER=netns-helper', 'CONTAINER_ID_FULL=' + c.cid, 'CONTAINER_NAME=named')
	until(told, 'an event of the helper with the id')
	rig.runc('start', c.cid)
	until(answers, 'the port answers')
	finish(c)


def test_failure(rig):
	"""a helper that cannot start fails the creation with its words, and leaves nothing"""
	c = Networked(rig, 'failing')
	first = c.create(*c.helper_options('--cidr=10.0.2.0/99'))
	assert first and first['data'] == -1 and 'prefix length' in first.get('message', ''), first
	until(lambda: not c.processes() and not c.helpers(), 'all gone')
	assert refused()
	rig.runc('delete', '--force', c.cid, check=False)
	c.forget()


def test_stop_on_failure(rig):
	"""with --on-worker-failure=stop a helper that cannot be kept running ends the container"""
	c = Networked(rig, 'hopeless')
	flag = c.path('broken')
	script = c.path('helper')
	with open(script, 'w') as f:
		f.write('#!/bin/sh\n[ ! -e %s ] || exit 1\nexec %s "$@"\n' % (flag, rig.programs.helper))
	os.chmod(script, 0o755)
	options = c.helper_options()
	options[1] = script
	first = c.create('--on-worker-failure', 'stop', *options)
	assert first and first['data'] > 0, first
	c.payload = first['data']
	rig.runc('start', c.cid)
	until(answers, 'the port answers')
	open(flag, 'w').close()
	world.kill_all(c.helpers)
	c.payload = 0
	until(lambda: os.path.exists(c.path('exits', c.exit_name)), 'the container was stopped', 90)
	c.wait_end(137, c.name)
	rig.runc('delete', '--force', c.cid, check=False)
	c.forget()


def main():
	world.enter()
	programs = world.Programs()
	book = Ledger()
	rig = conmon_rig.Rig(programs, book, world.Threads(book), world.Journal(), random.Random(1))
	wanted = sys.argv[1:]
	tests = [f for name, f in sorted(globals().items()) if name.startswith('test_') and (not wanted or name[5:] in wanted)]
	print('1..%d' % len(tests))
	bad = 0
	for i, f in enumerate(tests, 1):
		before = len(book.failures)
		try:
			f(rig)
			trouble = book.failures[before:]
		except (AssertionError, TimeoutError, RuntimeError, OSError) as e:
			trouble = ['%s: %s' % (type(e).__name__, e)]
			world.kill_all(lambda: list(world.running(programs.helper)) + list(world.running(programs.conmon)))
		bad += bool(trouble)
		print('%sok %d %s' % ('not ' if trouble else '', i, f.__doc__))
		for line in trouble:
			print('# ' + line)
		sys.stdout.flush()
	return 1 if bad else 0


if __name__ == '__main__':
	status = main()
	sys.stdout.flush()
	os._exit(status)
