#include "config.h"

#include "netns-helper/splice-socket.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "common/fd-util.h"

#define STATE_CLOSED 7 /* tcpi_state, TCP_CLOSE of <netinet/tcp.h> */

void splice_reset_close(int fd)
{
	const struct linger now = {.l_onoff = 1};

	if (fd < 0)
		return;
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	fd_close(fd);
}

int splice_connect(int fd, const SpliceAddr *to)
{
	struct sockaddr_storage addr;
	socklen_t size = splice_addr_to_sockaddr(to, &addr);

	if (connect(fd, (struct sockaddr *)&addr, size) == 0 || errno == EISCONN)
		return 0;
	if (errno != EINPROGRESS && errno != EALREADY)
		return -errno;
	/* A second call tells at once whether the first has succeeded already, as it does on the host itself. */
	if (connect(fd, (struct sockaddr *)&addr, size) == 0 || errno == EISCONN)
		return 0;
	return errno == EALREADY ? -EINPROGRESS : -errno;
}

/* getsockname(2) does not tell: a socket that was connected before shows its old port. */
int splice_bind(int fd, const void *addr, socklen_t size, bool again)
{
	if (bind(fd, addr, size) == 0 || (again && errno == EINVAL))
		return 0;
	return -errno;
}

bool splice_has_taken_everything(int fd)
{
	int unsent = 0;

	return ioctl(fd, SIOCOUTQ, &unsent) < 0 || unsent == 0;
}

uint64_t splice_bytes_given_to(int fd)
{
	struct tcp_info info;
	socklen_t size = sizeof(info);
	int unsent = 0;

	memset(&info, 0, sizeof(info));
	(void)getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
	(void)ioctl(fd, SIOCOUTQ, &unsent);
	return info.tcpi_bytes_acked + (uint64_t)unsent;
}

bool splice_is_connected(int fd)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof(peer);

	return getpeername(fd, (struct sockaddr *)&peer, &size) == 0;
}

bool splice_is_closed(int fd)
{
	struct tcp_info info = {0};
	socklen_t size = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == STATE_CLOSED;
}
