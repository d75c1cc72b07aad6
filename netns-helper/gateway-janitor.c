#include "config.h"

#include "netns-helper/gateway-janitor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/confine.h"
#include "common/fd-util.h"
#include "common/process.h"
#include "netns-helper/gateway.h"
#include "netns-helper/gateway-rtnl.h"

/* Whoever started the helper may end its whole process group; the janitor ends by end of file, after the others. */
static void ignore_signals(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)signal(signals[i], SIG_IGN);
}

static void close_all_but(int fd)
{
	if (fd > 0)
		(void)close_range(0, (unsigned)fd - 1, 0);
	(void)close_range((unsigned)fd + 1, ~0U, 0);
}

static _Noreturn void janitor_run(unsigned ifindex, int fd)
{
	static const cap_value_t needed[] = {CAP_NET_ADMIN};
	GatewayRtnl *rtnl;
	char byte;
	int r;

	close_all_but(fd);
	ignore_signals();
	(void)!chdir("/");
	(void)prctl(PR_SET_DUMPABLE, 0);
	process_set_title("janitor");
	(void)confine_capabilities(needed, 1);
	(void)confine_no_new_privs();
	rtnl = gateway_rtnl_new();
	if (!rtnl)
		_exit(1);

	while (read(fd, &byte, 1) < 0 && errno == EINTR)
		;
	r = gateway_rtnl_del_link(rtnl, ifindex);
	byte = (char)-r;
	(void)send(fd, &byte, 1, MSG_NOSIGNAL); /* nobody may be there any more */
	_exit(r < 0);
}

int gateway_janitor_start(unsigned ifindex, int *ret_fd)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		fd_close(pair[0]);
		fd_close(pair[1]);
		return r;
	}
	if (pid == 0)
		janitor_run(ifindex, pair[1]);
	fd_close(pair[1]);
	*ret_fd = pair[0];
	return 0;
}

int gateway_janitor_stop(int janitor_fd, int timeout_ms)
{
	struct pollfd pfd = {.fd = janitor_fd, .events = POLLIN};
	char byte = 0;
	int r;

	if (send(janitor_fd, &byte, 1, MSG_NOSIGNAL) < 0)
		return -errno;
	do
		r = poll(&pfd, 1, timeout_ms);
	while (r < 0 && errno == EINTR);
	if (r <= 0)
		return r < 0 ? -errno : -ETIMEDOUT;
	if (recv(janitor_fd, &byte, 1, 0) != 1)
		return -EPIPE;
	return -byte;
}
