#include "config.h"

#include "tests/fuzz/isolate.h"

#include <sched.h>
#include <unistd.h>

bool fuzz_isolate(void)
{
	return unshare(geteuid() == 0 ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET) == 0;
}

bool fuzz_is_isolated(void)
{
	static int state = -1;

	if (state < 0)
		state = fuzz_isolate();
	return state;
}
