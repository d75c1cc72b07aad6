# SPDX-License-Identifier: Apache-2.0
"""Declare contract tests, run them, print TAP.

A test names the clauses of the contract that it proves and a sentence that is true when it passes:

	@test('N-42', 'a malformed CIDR is refused before any namespace is touched')
	def _(t):
		...

`ours='reason'` declares a clause on which the reference program is known to differ (a D clause, or an addition).
Such a test is run against the reference as well and has to fail there: it then prints
`ok ... # expected failure in REFERENCE`, and `not ok` if the reference passes. A test that fails nowhere proves nothing.
`race='reason'` declares a clause on which the reference sometimes differs: both outcomes are good there, and printed.
"""
import faulthandler
import os
import signal
import sys
import time
import traceback

DEADLINE_S = 20		# for one test, unless it says otherwise; a hung program must not hang the run
AGAIN_S = 5		# then once more, should the first have come in a place where Python drops exceptions (a destructor)
CLEAN_UP_S = 30
STUCK_S = 30		# above all these: the whole program is ended, whatever it is blocked in
HUNG_MAX = 3		# tests without a result; then the rest of the file is not tried


class Skip(Exception):
	"""The machine cannot run this test; the text says what is missing."""


class Failure(AssertionError):
	"""What was expected and what was seen, in one line."""


class Deadline(BaseException):
	"""A test ran out of time. Not an Exception: no test may swallow it."""


class Test:
	def __init__(self, clauses, title, run, ours, race, modes, deadline):
		self.clauses, self.title, self.run = clauses, title, run
		self.ours, self.race, self.modes, self.deadline = ours, race, modes, deadline


NO_RESULT = 'no result within'
_tests = []


def test(clauses, title, *, ours=None, race=None, modes=None, deadline=DEADLINE_S):
	"""Register the decorated function as a test of @clauses (separated by blanks).

	@ours      why the reference fails this, or None where the clause holds for both programs
	@race      why the reference sometimes fails this
	@modes     which of the suite's modes it runs in, None for those that are usual
	@deadline  seconds
	"""
	def add(run):
		_tests.append(Test(clauses, title, run, ours, race, modes, deadline))
		return run
	return add


def fail(text):
	raise Failure(text)


def same(seen, wanted, what='value'):
	if seen == wanted:
		return
	if isinstance(seen, list) and isinstance(wanted, list) and len(seen) == len(wanted) > 8:
		at = next(i for i, (a, b) in enumerate(zip(seen, wanted)) if a != b)
		raise Failure('%s: first difference at %d: wanted %.500r, saw %.2000r' % (what, at, wanted[at], seen[at]))
	raise Failure('%s: wanted %.4000r, saw %.4000r' % (what, wanted, seen))


def true(condition, text):
	if not condition:
		raise Failure(text)


def has(text, part, what='text'):
	if part not in text:
		raise Failure('%s lacks %r: %r' % (what, part, text[-600:]))


def lacks(text, part, what='text'):
	if part in text:
		raise Failure('%s has %r: %r' % (what, part, text[-600:]))


def until(condition, text, seconds=5.0, pause=0.01):
	"""Wait for @condition to be true and return its value. The pause is between looks, not a measure of anything."""
	end = time.monotonic() + seconds
	while True:
		value = condition()
		if value:
			return value
		if time.monotonic() > end:
			raise Failure('after %g s still not: %s' % (seconds, text))
		time.sleep(pause)


def _expired(_signal, _frame):
	raise Deadline()


def _set_alarm(seconds):
	"""Deadline is raised in @seconds; 0: not at all."""
	signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S if seconds else 0)


def watch(seconds):
	"""
	Unless called again within @seconds, the program ends and says where it stood. A thread does it, so that neither a system call
	that no signal interrupts nor a thread that is waited for at the end can hold up the run.
	"""
	faulthandler.dump_traceback_later(seconds, exit=True)


def _diagnose(text):
	for line in text.rstrip().splitlines():
		print('#   ' + line)


def _attempt(one, make, mode):
	"""Run one test; return (outcome, words) with outcome pass, fail or skip. Clean-up that fails is a failure too."""
	context = None
	outcome, words = 'pass', ''
	watch(one.deadline + CLEAN_UP_S + STUCK_S)
	signal.signal(signal.SIGALRM, _expired)
	_set_alarm(one.deadline)
	try:
		context = make(mode)
		one.run(context)
	except Skip as e:
		outcome, words = 'skip', str(e)
	except Deadline:
		_set_alarm(0)
		outcome, words = 'fail', '%s %d s\n%s' % (NO_RESULT, one.deadline, traceback.format_exc(limit=-6))
	except Exception as e:
		where = traceback.extract_tb(e.__traceback__)
		lines = ['%s: %s' % (type(e).__name__, e)]
		lines += ['at %s:%d: %s' % (os.path.basename(f.filename), f.lineno, f.line) for f in where[-4:]]
		outcome, words = 'fail', '\n'.join(lines)
	_set_alarm(0)
	if context is not None:
		_set_alarm(CLEAN_UP_S)
		try:
			if outcome == 'fail':
				words += '\n' + context.report()
			context.close(outcome)
		except Exception as e:
			if outcome == 'pass':
				outcome, words = 'fail', 'clean-up: %s' % e
		except Deadline:
			outcome, words = 'fail', words + '\nclean-up did not end'
		_set_alarm(0)
	return outcome, words


def _print(number, title, outcome, words, one, reference):
	if outcome == 'skip':
		print('ok %d - %s # SKIP %s' % (number, title, words))
	elif one.race and reference:
		print('ok %d - %s # %s in %s: %s' % (number, title, 'expected failure' if outcome == 'fail' else 'passes this time',
			reference, one.race))
	elif one.ours and reference:
		if outcome == 'fail':
			print('ok %d - %s # expected failure in %s: %s' % (number, title, reference, one.ours))
			if os.environ.get('TAP_VERBOSE'):
				_diagnose(words.splitlines()[0])
		else:
			print('not ok %d - %s' % (number, title))
			_diagnose('declared to hold for ours only (%s), but %s passes' % (one.ours, reference))
			return False
	elif outcome == 'pass':
		print('ok %d - %s' % (number, title))
	else:
		print('not ok %d - %s' % (number, title))
		_diagnose(words)
		return False
	return True


def main(make, modes=('',), usual=None, like=None, reference=None):
	"""Run every registered test and leave: status 0 if all is well, 1 otherwise.

	@make       called with the mode, returns the context of a test: it has report() and close(outcome)
	@modes      names of the ways in which the suite can be run
	@usual      those in which a test runs that does not choose, None for all
	@like       mode → the mode whose tests it runs
	@reference  what to call the reference program if that is what is being tested, else None

	Arguments of the command line are substrings: only tests whose printed title contains one of them are run.
	"""
	sys.stdout.reconfigure(line_buffering=True)
	wanted = sys.argv[1:]
	plan = []
	for mode in modes:
		for one in _tests:
			if (like or {}).get(mode, mode) not in (one.modes or usual or modes):
				continue
			title = '%s: %s%s' % (one.clauses, one.title, ' [%s]' % mode if mode else '')
			if not wanted or any(w in title for w in wanted):
				plan.append((one, mode, title))
	print('1..%d' % len(plan))
	good, hung = True, 0
	for number, (one, mode, title) in enumerate(plan, 1):
		begun = time.monotonic()
		outcome, words = _attempt(one, make, mode)
		if os.environ.get('TAP_VERBOSE'):
			print('# %.2f s' % (time.monotonic() - begun))
		good &= _print(number, title, outcome, words, one, reference)
		hung += words.startswith(NO_RESULT)
		if hung == HUNG_MAX and number < len(plan) and not reference:
			print('Bail out! %d tests had no result in time' % hung)
			good = False
			break
	watch(STUCK_S)
	sys.exit(0 if good else 1)
