#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The state file, which is ours and not of the contract: what it says, and that it goes."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from tap import test	# noqa: E402

SLEEPS = "write_pid(payload('sleep 60'))"


def container(t):
	"""(run, path of its state file)"""
	os.mkdir(t.path('run'))
	b = t.plain()
	r = t.create(b, runtime=t.runtime(SLEEPS), env={'XDG_RUNTIME_DIR': t.path('run')})
	return r, t.path('run/tandem/conmon-%s.state' % b.id)


def state(path):
	with open(path) as f:
		return dict(line.rstrip('\n').split('=', 1) for line in f)


def end(r, path):
	os.kill(r.payload, 9)
	r.sync_ended()
	tap.until(lambda: not os.path.exists(path), 'the state file is gone')


@test('X-5', 'the state file names the processes and goes with the container', ours='a file of ours')
def _(t):
	r, path = container(t)
	tap.until(lambda: state(path).get('STATE') == 'running', 'it runs')
	s = state(path)
	tap.same(int(s['PAYLOAD_PID']), r.payload)
	tap.same(int(s['KEEPER_PID']), r.monitor)
	for role in ('REAPER', 'MONITOR'):
		tap.true(processes.is_alive(int(s[role + '_PID'])), role)
	end(r, path)
	tap.same(r.end(), 137)


@test('X-5', 'it goes, too, when the keeper was killed and another one has taken over', ours='a file of ours')
def _(t):
	r, path = container(t)
	tap.until(lambda: state(path).get('STATE') == 'running', 'it runs')
	first = r.monitor
	os.kill(first, 9)
	tap.until(lambda: int(state(path)['KEEPER_PID']) != first, 'a new keeper')
	tap.true(any('keeper' in v for k, v in state(path).items() if k.startswith('EVENT.')), 'an event')
	end(r, path)


conmonlab.main()
