#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Too little of something: the engine is told why (C-65), and nothing stays."""
import os
import resource
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import tap		# noqa: E402
from tap import test	# noqa: E402


def low(limit):
	resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


@test('C-65', 'each limit of open files ends in a working container or in words', race='W-6: it just exits', deadline=120)
def _(t):
	created = 0
	for limit in range(8, 128, 12):
		b = t.plain()
		r = t.start_conmon(b, '--sync', runtime=t.runtime("write_pid(payload('exit 7'))"), setup=lambda n=limit: low(n),
			pidfile=False)
		m = r.message()
		created += m['data'] > 0
		if m['data'] < 0:
			tap.true(len(m['message']) > 10, 'a reason')
			tap.same(created, 0, 'a higher limit works if a lower one did')
		tap.same(r.front_status(), 7 if m['data'] > 0 else 1)
	tap.true(created > 0, 'the highest limit is enough')


conmonlab.main()
