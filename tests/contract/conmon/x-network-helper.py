#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""--network-helper, which is ours and not of the contract: start, readiness, failure, end, restart."""
import os
import select
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from tap import test	# noqa: E402

# Notes its arguments and pid, waits for a word, says that it is ready, and stays until its exit descriptor hangs up.
HELPER = '''#!/bin/bash
echo "$$" "$@" >> %(dir)s/started
%(before)s
echo 1 >&$4
eval "exec $4>&-"
read x <&$2
echo bye >> %(dir)s/ended
'''


def helper(t, before='true'):
	path = t.path('helper')
	with open(path, 'w') as f:
		f.write(HELPER % {'dir': t.path('.'), 'before': before})
	os.chmod(path, 0o755)
	return path


def started(t):
	try:
		return [line.split() for line in t.text(t.path('started')).splitlines()]
	except FileNotFoundError:
		return []


def options(t, before='true'):
	return ('--network-helper', helper(t, before), '--network-helper-arg', '-c', '--network-helper-arg', '--mtu=1 x')


@test('X-1', 'started for the payload with its arguments, and ended with the container before the exit file', ours='an option of ours')
def _(t):
	body = "write_pid(payload('read x < %s; exit 3'))" % t.path('gate')
	os.mkfifo(t.path('gate'))
	b = t.plain()
	r = t.create(b, *options(t), runtime=t.runtime(body))
	seen = started(t)[0]
	tap.same([seen[1], seen[3]] + seen[5:], ['-e', '-r', '-c', '--mtu=1', 'x', str(r.payload), 'tap0'])
	with open(t.path('gate'), 'w') as f:
		f.write('go\n')
	tap.same(t.exit_file(b), '3')
	tap.same(t.text(t.path('ended')), 'bye\n')
	tap.same(r.end(), 3)


@test('X-1', 'the engine is told only when the helper is ready', ours='an option of ours')
def _(t):
	os.mkfifo(t.path('ready'))
	b = t.plain()
	r = t.start_conmon(b, *options(t, 'read y < %s' % t.path('ready')), runtime=t.runtime("write_pid(payload('sleep 60'))"))
	tap.until(lambda: started(t), 'the helper')
	tap.true(not os.path.exists(t.path('ended')), 'helper waits')
	tap.same(processes.is_alive(int(started(t)[0][0])), True)
	tap.same(select.select([r.sync], [], [], 0.3)[0], [], 'messages before the helper is ready')
	with open(t.path('ready'), 'w') as f:
		f.write('now\n')
	pid = r.message()['data']
	os.kill(pid, 9)
	tap.same(r.end(), 137)


@test('X-2', 'a helper that fails, or is none, is a failed creation in its words, and no payload stays', ours='an option of ours')
def _(t):
	for before, words in (('echo no tap for you >&2; exit 1', 'no tap for you'), ('exit 0', 'network helper')):
		b = t.plain()
		r = t.start_conmon(b, *options(t, before),
			runtime=t.runtime("p = payload('sleep 60')\nwrite_pid(p)\nopen(DIR + '/payload', 'w').write(str(p))"))
		m = r.message()
		tap.same(m['data'], -1)
		tap.has(m['message'], words)
		tap.same(r.end(), 1)
		tap.same(t.has_exit(b), False, 'exit file')
		tap.until(lambda: not processes.is_alive(int(t.text(t.path('payload')))), 'the payload is gone')


@test('X-3', 'a helper that dies is started again with the same arguments', ours='an option of ours')
def _(t):
	b = t.plain()
	r = t.create(b, *options(t), runtime=t.runtime("write_pid(payload('sleep 60'))"))
	os.kill(int(started(t)[0][0]), 9)
	tap.until(lambda: len(started(t)) == 2, 'the second helper')
	tap.same(started(t)[1][5:], started(t)[0][5:])
	os.kill(r.payload, 9)
	tap.same(r.end(), 137)
	tap.same(len(started(t)), 2, 'starts')


@test('X-4', 'wrong use is refused: with exec, arguments alone, a helper that is not there', ours='an option of ours')
def _(t):
	for argv, words in ((('--network-helper', '/bin/true', '-e', '--exec-process-spec', 'x'), 'exec'),
			(('--network-helper-arg', 'x'), 'without --network-helper'),
			(('--network-helper', '/no/such/helper'), '/no/such/helper')):
		r = t.conmon('-c', 'x', '-u', 'x', '-r', '/bin/true', '-l', 'none', *argv, start=None)
		tap.same(r.front_status(), 1)
		r.output_ended(2)
		tap.has(r.err(), words)


conmonlab.main()
