#include "config.h"

#include "common/fd-pass.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd-util.h"

union control {
	char room[CMSG_SPACE(FD_PASS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	struct cmsghdr align;
};

static int send_message(int sock, const struct sockaddr_un *addr, socklen_t addr_len, const void *buf,
	size_t size, const int *fds, size_t n_fds)
{
	union control control;
	struct iovec iov = {.iov_base = (void *)buf, .iov_len = size};
	struct msghdr msg = {
		.msg_name = (void *)addr,
		.msg_namelen = addr_len,
		.msg_iov = &iov,
		.msg_iovlen = 1,
	};
	ssize_t n;

	if ((size == 0 && n_fds == 0) || n_fds > FD_PASS_MAX)
		return -EINVAL;
	if (n_fds > 0) {
		struct cmsghdr *cmsg = &control.align;

		memset(&control, 0, CMSG_SPACE(n_fds * sizeof(int)));
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EMSGSIZE;
}

int fd_pass_send(int sock, const void *buf, size_t size, const int *fds, size_t n_fds)
{
	return send_message(sock, NULL, 0, buf, size, fds, n_fds);
}

int fd_pass_send_to(int sock, const char *addr, const void *buf, size_t size, const int *fds, size_t n_fds)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t len = strlen(addr);

	if (len == 0 || len >= sizeof(un.sun_path))
		return -EINVAL;
	memcpy(un.sun_path, addr, len);
	if (addr[0] == '@')
		un.sun_path[0] = '\0';
	return send_message(sock, &un,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (addr[0] != '@')), buf, size, fds,
		n_fds);
}

/* Collect all descriptors of the message; what is not SCM_RIGHTS of a sound length makes it a bad one. */
static int take_fds(struct msghdr *msg, int *fds, size_t *n)
{
	int r = 0;

	*n = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t bytes;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
			/* credentials come unasked if the receiver enabled SO_PASSCRED; they carry no descriptor */
			if (!(c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS))
				r = -EPROTO;
			continue;
		}
		if (c->cmsg_len < CMSG_LEN(0) || (c->cmsg_len - CMSG_LEN(0)) % sizeof(int)) {
			r = -EPROTO;
			continue;
		}
		bytes = c->cmsg_len - CMSG_LEN(0);
		if (*n + bytes / sizeof(int) > FD_PASS_MAX) {
			r = -EPROTO;
			continue;
		}
		memcpy(fds + *n, CMSG_DATA(c), bytes);
		*n += bytes / sizeof(int);
	}
	return r;
}

ssize_t fd_pass_recv_any(int sock, void *buf, size_t size, int *ret_fds, size_t *n_fds)
{
	union control control;
	int fds[FD_PASS_MAX];
	struct iovec iov = {.iov_base = buf, .iov_len = size};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	size_t got = 0;
	ssize_t n;
	int r;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	r = take_fds(&msg, fds, &got);
	if (r == 0 && (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		r = -EMSGSIZE;
	if (r == 0 && got > *n_fds)
		r = -EPROTO;
	if (r < 0) {
		for (size_t i = 0; i < got; i++)
			(void)fd_close(fds[i]);
		return r;
	}
	if (got > 0)
		memcpy(ret_fds, fds, got * sizeof(int));
	*n_fds = got;
	return n;
}

ssize_t fd_pass_recv(int sock, void *buf, size_t size, int *ret_fds, size_t n_fds)
{
	int fds[FD_PASS_MAX];
	size_t got = n_fds;
	ssize_t n = fd_pass_recv_any(sock, buf, size, fds, &got);

	if (n > 0 && got != n_fds) {
		for (size_t i = 0; i < got; i++)
			(void)fd_close(fds[i]);
		return -EPROTO;
	}
	if (n == 0) {
		for (size_t i = 0; i < got; i++)
			(void)fd_close(fds[i]);
	} else if (n > 0 && got > 0) {
		memcpy(ret_fds, fds, got * sizeof(int));
	}
	return n;
}
