#include "config.h"

#include "netns-helper/splice-pacing.h"

#include <netinet/tcp.h>
#include <string.h>

#include "common/fd-util.h"

#define PLAIN "reno"

bool splice_pacing_is_pacing(const char *name)
{
	return strncmp(name, "bbr", 3) == 0; /* bbr, bbr2, bbr3 */
}

static int set(int fd, const char *name)
{
	return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name));
}

void splice_pacing_init(SplicePacing *pacing)
{
	socklen_t size = sizeof(pacing->usual) - 1;
	cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memset(pacing, 0, sizeof(*pacing));
	if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, pacing->usual, &size) < 0 ||
		!splice_pacing_is_pacing(pacing->usual) || set(fd, PLAIN) < 0 || set(fd, pacing->usual) < 0)
		memset(pacing, 0, sizeof(*pacing));
}

void splice_pacing_before(const SplicePacing *pacing, int fd)
{
	if (pacing->usual[0])
		(void)set(fd, PLAIN); /* only costs speed */
}

/* The kernel gives a connection to one of its own addresses that same address on this side. */
static bool is_local(int fd, const SpliceAddr *peer)
{
	struct sockaddr_storage addr;
	socklen_t size = sizeof(addr);
	SpliceAddr mine;

	if (getsockname(fd, (struct sockaddr *)&addr, &size) < 0 ||
		!splice_addr_from_sockaddr((struct sockaddr *)&addr, &mine))
		return false;
	mine.port = peer->port;
	return splice_addr_equal(&mine, peer);
}

void splice_pacing_undo(const SplicePacing *pacing, int fd)
{
	if (pacing->usual[0])
		(void)set(fd, pacing->usual); /* splice_pacing_init() has seen that it can be done */
}

void splice_pacing_after(const SplicePacing *pacing, int fd, const SpliceAddr *peer)
{
	if (pacing->usual[0] && !is_local(fd, peer))
		splice_pacing_undo(pacing, fd);
}
