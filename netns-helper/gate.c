#include "config.h"

#include "netns-helper/gate.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "netns-helper/gateway.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* Linux 6.2 */
#endif

#define BATCH 32 /* frames of one system call */
#define FRAME_MAX (ETH_HLEN + 65535 + 7) /* bytes of the largest frame, rounded up */
#define ROUNDS_MAX 4 /* batches before other work has its turn */
#define QUEUE_SIZE (256 << 10) /* bytes of frames to the guest that go out together */
#define QUEUE_FRAMES 64

struct Gate {
	int fd;
	bool splice;
	EventSource *source;
	GateHandlers handlers;
	/* to the guest */
	size_t n_queued, queue_used;
	struct mmsghdr out[QUEUE_FRAMES];
	struct iovec out_iov[QUEUE_FRAMES];
	uint8_t queue[QUEUE_SIZE];
	/* from the guest; touched only as far as frames are long */
	struct mmsghdr in[BATCH];
	struct iovec in_iov[BATCH][2];
	struct virtio_net_hdr vnet[BATCH];
	uint8_t frames[BATCH][FRAME_MAX];
};

void gate_flush(Gate *gate)
{
	size_t done = 0;

	while (done < gate->n_queued) {
		int n = sendmmsg(gate->fd, gate->out + done, (unsigned)(gate->n_queued - done), MSG_DONTWAIT);

		done += n > 0 ? (size_t)n : 1; /* the one that was refused is lost, as on any wire */
	}
	gate->n_queued = gate->queue_used = 0;
}

void gate_send(Gate *gate, const uint8_t *frame, size_t size)
{
	size_t need = sizeof(struct virtio_net_hdr) + size;
	uint8_t *at;

	if (need > QUEUE_SIZE)
		return;
	if (gate->n_queued == QUEUE_FRAMES || gate->queue_used + need > QUEUE_SIZE)
		gate_flush(gate);
	at = gate->queue + gate->queue_used;
	memset(at, 0, sizeof(struct virtio_net_hdr));
	memcpy(at + sizeof(struct virtio_net_hdr), frame, size);
	gate->out_iov[gate->n_queued] = (struct iovec){.iov_base = at, .iov_len = need};
	gate->queue_used += need;
	gate->n_queued++;
}

/* @return whether it was for the splice engine, or for nobody */
static bool take_tcp(Gate *gate, const uint8_t *frame, size_t size, const struct virtio_net_hdr *vnet)
{
	GateTcp tcp;

	if (!gate->splice || !gate_frame_has_tcp(frame, size))
		return false;
	if (!gate_frame_is_tcp(frame, size, &tcp))
		return true; /* never to the stack: what is wrong with it might be meant to get past our rules */
	if (IN6_IS_ADDR_LINKLOCAL(&tcp.src.ip))
		return false; /* gateway-nft.h */
	gate->handlers.on_tcp(gate->handlers.data, frame, size, &tcp, vnet);
	return true;
}

static void on_frame(Gate *gate, uint8_t *frame, size_t size, const struct virtio_net_hdr *vnet)
{
	GateHandlers *h = &gate->handlers;

	if (take_tcp(gate, frame, size, vnet))
		return;
	/* Bad ones are lost. */
	switch (vnet->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		(void)gate_frame_segment_udp(frame, size, vnet->gso_size, h->on_frame, h->data);
		break;
	case VIRTIO_NET_HDR_GSO_TCPV4:
	case VIRTIO_NET_HDR_GSO_TCPV6:
		(void)gate_frame_segment_tcp(frame, size, vnet->gso_size, h->on_frame, h->data);
		break;
	default:
		if (gate_frame_complete_checksum(frame, size, vnet) == 0)
			h->on_frame(h->data, frame, size);
	}
}

static void gone(Gate *gate)
{
	event_source_remove(gate->source);
	gate->source = NULL;
	gate->handlers.on_gone(gate->handlers.data);
}

static void on_readable(void *data, uint32_t events)
{
	Gate *gate = data;

	(void)events;
	for (int round = 0; round < ROUNDS_MAX; round++) {
		int n = recvmmsg(gate->fd, gate->in, BATCH, MSG_DONTWAIT, NULL);

		if (n < 0) {
			if (errno == ENETDOWN) {
				gone(gate);
				return;
			}
			break;
		}
		for (int i = 0; i < n; i++) {
			size_t size = gate->in[i].msg_len;

			if (size > sizeof(struct virtio_net_hdr) + ETH_HLEN &&
				!(gate->in[i].msg_hdr.msg_flags & MSG_TRUNC))
				on_frame(gate, gate->frames[i], size - sizeof(struct virtio_net_hdr),
					&gate->vnet[i]);
		}
		gate->handlers.on_batch_end(gate->handlers.data);
		gate_flush(gate);
		if (n < BATCH)
			break;
	}
}

Gate *gate_new(int packet_fd, bool splice, EventLoop *loop, const GateHandlers *handlers)
{
	Gate *gate = calloc(1, sizeof(*gate));
	int r;

	if (!gate)
		return NULL;
	gate->fd = packet_fd;
	gate->splice = splice;
	gate->handlers = *handlers;
	for (int i = 0; i < QUEUE_FRAMES; i++)
		gate->out[i].msg_hdr = (struct msghdr){.msg_iov = &gate->out_iov[i], .msg_iovlen = 1};
	for (int i = 0; i < BATCH; i++) {
		gate->in_iov[i][0] =
			(struct iovec){.iov_base = &gate->vnet[i], .iov_len = sizeof(gate->vnet[i])};
		gate->in_iov[i][1] = (struct iovec){.iov_base = gate->frames[i], .iov_len = FRAME_MAX};
		gate->in[i].msg_hdr = (struct msghdr){.msg_iov = gate->in_iov[i], .msg_iovlen = 2};
	}
	r = splice ? gateway_filter_gate(packet_fd) : gateway_filter_all(packet_fd);
	if (r == 0)
		r = event_loop_add_fd(loop, packet_fd, EPOLLIN, on_readable, gate, &gate->source);
	if (r == 0)
		return gate;
	free(gate);
	errno = -r;
	return NULL;
}

void gate_free(Gate *gate)
{
	if (!gate)
		return;
	event_source_remove(gate->source);
	free(gate);
}
