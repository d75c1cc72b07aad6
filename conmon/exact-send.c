#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conmon/exact-send.h"

enum { IDLE, FILLING, FILLED };

static void set_phase(ExactSend *x, int phase)
{
	atomic_store_explicit(&x->phase, phase, memory_order_release);
}

int exact_send_open(ExactSend *x, FdStore *store, const char *name)
{
	return fd_store_pipe(store, name, &x->r, &x->w);
}

/* Throw away what is in the pipe. The phase goes back first: an empty pipe in phase FILLED would mean "sent". */
static void exact_send_empty(ExactSend *x)
{
	char scrap[8192];

	set_phase(x, FILLING);
	while (read(x->r, scrap, sizeof(scrap)) > 0)
		;
	set_phase(x, IDLE);
}

bool exact_send_recover(ExactSend *x, ExactTicket *ret_ticket)
{
	int left = 0;

	if (atomic_load_explicit(&x->phase, memory_order_acquire) == FILLED && ioctl(x->r, FIONREAD, &left) == 0 &&
			left == 0) {
		*ret_ticket = x->ticket;
		return true;
	}
	exact_send_empty(x);
	return false;
}

static int exact_send_plainly(ExactSend *x, int sock, const struct iovec *iov, int n_iov)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n_iov };
	ssize_t n;

	do {
		n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);	/* no control data: not fd-pass.c's business */
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		int error = -errno;

		set_phase(x, IDLE);
		return error;
	}
	return 0;
}

int exact_send(ExactSend *x, const ExactTicket *ticket, int sock, const struct iovec *iov, int n_iov, size_t size)
{
	ssize_t n;
	int error;

	x->ticket = *ticket;
	set_phase(x, FILLING);
	if (size > EXACT_SEND_MAX || atomic_load_explicit(&x->no_splice, memory_order_relaxed))
		return exact_send_plainly(x, sock, iov, n_iov);

	n = writev(x->w, iov, n_iov);
	if (n != (ssize_t)size) {	/* a pipe kept small by fs.pipe-user-pages-soft */
		exact_send_empty(x);
		set_phase(x, FILLING);
		return exact_send_plainly(x, sock, iov, n_iov);
	}
	set_phase(x, FILLED);
	do {
		n = splice(x->r, NULL, sock, NULL, size, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)size)
		return 0;
	error = n < 0 ? errno : EMSGSIZE;
	exact_send_empty(x);
	if (error == EINVAL || error == EMSGSIZE) {
		if (error == EINVAL)
			atomic_store_explicit(&x->no_splice, 1, memory_order_relaxed);
		set_phase(x, FILLING);
		return exact_send_plainly(x, sock, iov, n_iov);
	}
	return -error;
}

void exact_send_done(ExactSend *x)
{
	set_phase(x, IDLE);
}
