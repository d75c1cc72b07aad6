#include "config.h"

#include "conmon/exit-command.h"

#include <errno.h>
#include <linux/close_range.h>
#include <unistd.h>

#include "conmon/child.h"
#include "conmon/environment.h"
#include "conmon/text.h"

static void exit_command_child(const Conmon *conmon)
{
	const ConmonOptions *o = conmon->options;
	char **argv = NULL;

	words_add(&argv, o->exit_command);
	for (char **arg = o->exit_command_args; *arg; arg++)
		words_add(&argv, *arg);
	environment_restore_for_exec(conmon->environment);
	(void)close_range(STDERR_FILENO + 1, ~0U, 0); /* 0 to 2 are /dev/null by now */
	(void)execv(o->exit_command, argv);
	_exit(127); /* C-205: nobody minds */
}

int exit_command_start(const Conmon *conmon)
{
	return child_start_once(
		conmon, &conmon->reaper->exit_command_pid, FD_EXIT_COMMAND, exit_command_child);
}
