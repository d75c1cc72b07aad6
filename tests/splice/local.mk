# The fast path: what it must survive, whom it must resist, and that applications can't tell it from the host's own network.
SPLICE_TESTS = \
	tests/splice/semantics.py \
	tests/splice/hostile.py \
	tests/splice/survival.py
TESTS += $(SPLICE_TESTS)
EXTRA_DIST += $(SPLICE_TESTS)
