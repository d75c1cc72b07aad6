/*
 * Transport of drivers that send datagrams to a unix socket: one datagram per batch, exactly once (conmon/exact-send.h).
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd-pass.h"
#include "common/fd-util.h"

#include "conmon/log/driver.h"

#define NOTE_STREAM LOG_STREAMS	/* in tickets: no position moves, the note is told */
#define SEND_BUFFER (1024 * 1024)	/* bytes; several batches may wait in the receiver's queue */

static int socket_connect(LogSink *sink, LogContext *ctx)
{
	struct sockaddr_storage addr;
	socklen_t addr_size = log_address_parse(sink->socket.address, &addr);
	cleanup_close int fd = socket(addr.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int size = SEND_BUFFER, r;

	if (addr_size == 0)
		return -EINVAL;
	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));	/* the default works, too */
	if (connect(fd, (struct sockaddr *)&addr, addr_size) < 0)
		return -errno;
	r = fd_store_replace(ctx->store, sink->socket.fd_name, fd);
	if (r < 0)
		return r;
	sink->socket.fd = fd_steal(&fd);
	ctx->watch(sink, ctx);
	return 0;
}

static void socket_drop(LogSink *sink, LogContext *ctx)
{
	sink->socket.fd = -1;
	ctx->watch(sink, ctx);
	fd_store_close(ctx->store, sink->socket.fd_name);
}

static int datagram_open(LogSink *sink, LogContext *ctx, unsigned index)
{
	(void)index;
	sink->is_full = false;
	sink->socket.fd = fd_store_get(ctx->store, sink->socket.fd_name);
	if (sink->socket.fd < 0)
		return socket_connect(sink, ctx);
	ctx->watch(sink, ctx);
	return 0;
}

/* A batch larger than any datagram goes by reference (systemd's protocol: empty message, one sealed memfd). */
static int send_memfd(LogSink *sink, const char *data, size_t size)
{
	cleanup_close int fd = memfd_create("entry", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, data, size);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return -errno;
	return fd_pass_send(sink->socket.fd, "", 0, &fd, 1);
}

static int datagram_send(LogSink *sink, LogContext *ctx, const ExactTicket *ticket, size_t size)
{
	struct iovec iov = { .iov_base = ctx->out, .iov_len = size };
	int r;

	if (sink->socket.fd < 0) {
		r = socket_connect(sink, ctx);
		if (r < 0)
			return r;
	}
	r = exact_send(ctx->send, ticket, sink->socket.fd, &iov, 1, size);
	if (r == -ECONNREFUSED || r == -ENOTCONN || r == -ECONNRESET) {	/* the receiver was started anew */
		socket_drop(sink, ctx);
		r = socket_connect(sink, ctx);
		if (r < 0)
			return r;
		r = exact_send(ctx->send, ticket, sink->socket.fd, &iov, 1, size);
	}
	if (r == -EMSGSIZE)
		r = send_memfd(sink, ctx->out, size);
	if (r == -EAGAIN || r == -ENOBUFS)
		sink->is_full = true;
	return r;
}

static ssize_t datagram_pump(LogSink *sink, LogContext *ctx, unsigned stream, LogUrgency urgency)
{
	uint64_t mark = sink->mark[stream], from = log_mark_pos(mark);
	const Ring *ring = ctx->rings[stream];
	LogBatch batch = {
		.data = ring_at(ring, from),
		.size = (size_t)(ring_head(ring) - from),
		.stream = stream,
		.mid_line = log_mark_is_mid_line(mark),
		.urgency = urgency,
		.stamp = log_stamp(ctx),
		.out = ctx->out,
		.room = EXACT_SEND_MAX,
	};
	ExactTicket ticket = { .owner = sink->index, .stream = stream };
	int r;

	if (batch.size == 0)
		return 0;
	sink->driver->format(sink, &batch);
	if (batch.made == 0 && batch.is_full) {	/* labels of many kilobytes */
		batch.room = LOG_OUT_SIZE;
		batch.is_full = false;
		sink->driver->format(sink, &batch);
		if (batch.made == 0 && batch.is_full)
			return -E2BIG;
	}
	if (batch.used == 0)
		return 0;
	ticket.to = log_mark(from + batch.used, batch.ends_mid_line);
	r = datagram_send(sink, ctx, &ticket, batch.made);
	if (r < 0)
		return r;
	log_datagram_commit(sink, &ticket);
	exact_send_done(ctx->send);
	return (ssize_t)batch.used;
}

void log_datagram_commit(LogSink *sink, const ExactTicket *ticket)
{
	if (ticket->stream < LOG_STREAMS) {
		atomic_store_explicit(&sink->mark[ticket->stream], ticket->to, memory_order_release);
	} else {
		log_note_done(sink, ticket->to, ticket->note);
	}
}

static int datagram_note(LogSink *sink, LogContext *ctx)
{
	char note[128];
	LogBatch batch = {
		.data = note,
		.size = log_note_text(sink, note, sizeof(note)),
		.stream = 1,
		.urgency = LOG_FINISH,
		.stamp = log_stamp(ctx),
		.out = ctx->out,
		.room = LOG_OUT_SIZE,
	};
	ExactTicket ticket = {
		.owner = sink->index,
		.stream = NOTE_STREAM,
		.to = sink->lost_bytes,
		.note = sink->lost_lines,
	};
	int r;

	if (batch.size == 0)
		return 0;
	sink->driver->format(sink, &batch);
	r = datagram_send(sink, ctx, &ticket, batch.made);
	if (r < 0)
		return r;
	log_datagram_commit(sink, &ticket);
	exact_send_done(ctx->send);
	return 0;
}

const LogTransport log_datagram_transport = {
	.open = datagram_open,
	.pump = datagram_pump,
	.note = datagram_note,
};
