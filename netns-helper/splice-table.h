#pragma once
/*
 * What the splice engine must not forget when its worker is killed: one shared mapping, made before the first fork.
 *
 * Theory of operation. All processes of the container share one descriptor table, so an entry names the two sockets of a connection by number.
 * Bytes under way are only ever in a socket or in a pipe, and each pipe in use is named by the half of the connection that
 * uses it, before the first byte goes in. splice(2) has happened or has not; so whatever instant a worker is killed at, its
 * successor finds every byte once, and asks the pipe how many it holds.
 *
 *	FREE ──▶ CONNECTING ──▶ INJECTED ──▶ OPEN ──▶ ENDING ──▶ FREE	connection of the guest
 *	     ╰─▶ ASKING ────────────────────▶ OPEN			connection to a published port
 *
 * CONNECTING: the host's connect() is under way; the guest's first segment is kept in the entry. INJECTED: it succeeded, that segment was given to
 * the gateway's kernel, its connection is to be accepted. ASKING: the guest's answer to our connect() is awaited. ENDING: the
 * descriptors are being closed, with a reset or without. The order of stores: data, then phase; so in each phase the step that it
 * announces may have been taken or not, and a successor takes it again. Descriptors are closed between ENDING and FREE, so a number
 * in an ENDING entry may be somebody else's already: these entries are cleared before a new worker makes its first TCP socket, and
 * what is no TCP socket is left alone.
 *
 * The worker is the only writer.
 */
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define SPLICE_FLOWS_MAX 16384 /* connections; two descriptors each, so RLIMIT_NOFILE usually comes first */
#define SPLICE_PIPES_MAX 2048 /* directions with bytes under way at one instant */
#define SPLICE_NURSERY_MAX 8 /* spare transparent sockets of each family */
#define SPLICE_SYN_MAX                                                                                       \
	160 /* at most 255; bytes: virtio header, Ethernet, the largest IPv4 header, the largest TCP header */

enum {
	SPLICE_GUEST, /* the socket in the gateway namespace */
	SPLICE_HOST,
};

typedef enum {
	SPLICE_FREE,
	SPLICE_CONNECTING,
	SPLICE_INJECTED,
	SPLICE_ASKING,
	SPLICE_OPEN,
	SPLICE_ENDING,
} SplicePhase;

/* IPv4 is kept as ::ffff:a.b.c.d, so that one comparison does. */
typedef struct {
	struct in6_addr ip;
	uint16_t port; /* host order */
	uint16_t pad;
} SpliceAddr;

enum {
	SPLICE_HALF_EOF = 1 << 0, /* the source has ended its stream */
	SPLICE_HALF_DONE = 1 << 1, /* and the destination was told */
	SPLICE_HALF_RESET =
		1 << 2, /* the source was reset; the destination will be when it has what came before */
};

/* Urgent data is passed byte by byte; what step was reached, and how much the destination had taken before. */
typedef enum {
	SPLICE_URGENT_NONE,
	SPLICE_URGENT_SENDING,
	SPLICE_URGENT_SENT,
} SpliceUrgent;

/* One direction; entry [side] of a flow is what comes from that side. */
typedef struct {
	_Atomic uint32_t pipe; /* 1 + index of the pipe in use, 0: none */
	_Atomic uint32_t flags; /* SPLICE_HALF_* */
	_Atomic uint32_t urgent; /* SpliceUrgent */
	uint32_t pad;
	uint64_t urgent_base;
	uint64_t bytes; /* passed on; for people, may miss the last splice before a kill */
} SpliceHalf;

typedef struct {
	_Atomic uint32_t phase; /* SplicePhase */
	uint8_t inbound;
	uint8_t family; /* AF_INET or AF_INET6, on both sides */
	uint8_t syn_size; /* bytes of syn[] */
	uint8_t ends_with_reset; /* in ENDING */
	_Atomic int32_t fd[2]; /* [SPLICE_GUEST], [SPLICE_HOST]; -1: none (yet) */
	SpliceAddr guest; /* address of the guest's end */
	SpliceAddr remote; /* address of the other end as the guest sees it */
	SpliceAddr host; /* where it really goes, or comes from */
	uint64_t since_ms; /* of the present phase, monotonic */
	SpliceHalf half[2];
	_Atomic uint32_t kept; /* by systemd (splice-keep.c) */
	uint8_t syn[SPLICE_SYN_MAX]; /* virtio header and frame of the first segment */
} SpliceFlow;

typedef struct {
	_Atomic int32_t read_fd, write_fd; /* 1 + descriptor, 0: none */
	_Atomic uint32_t kept; /* by systemd (splice-keep.c) */
} SplicePipe;

typedef struct {
	SpliceFlow flows[SPLICE_FLOWS_MAX];
	SplicePipe pipes[SPLICE_PIPES_MAX];
	_Atomic int32_t nursery[2][SPLICE_NURSERY_MAX]; /* 1 + descriptor; [0] IPv4, [1] IPv6 */
	_Atomic uint32_t flows_top; /* no entry from here on was ever used */
	_Atomic uint32_t pipes_top; /* likewise */
	_Atomic int32_t fd_high; /* no descriptor of ours was ever greater */
} SpliceTable;

/** @return the empty table in shared memory, or NULL with errno; never freed. */
SpliceTable *splice_table_new(void);

/** Remember for fd_high. */
void splice_table_saw_fd(SpliceTable *table, int fd);
/** Set @p known [fd] for every descriptor below @p limit that is named in the table. */
void splice_table_mark_fds(const SpliceTable *table, bool *known, size_t limit);
/** Reset every connection, close every pipe and spare socket, and forget them: for a worker that is to start with nothing. */
void splice_table_clear(SpliceTable *table);

/** Whether @p fd is a TCP socket: what a number in the table must be if it is still ours. */
bool splice_is_tcp(int fd);

bool splice_addr_equal(const SpliceAddr *a, const SpliceAddr *b);
bool splice_addr_is_v4(const SpliceAddr *a);
/** The IPv4 address within @p a, network order. */
struct in_addr splice_addr_v4(const SpliceAddr *a);
SpliceAddr splice_addr_from_v4(struct in_addr ip, uint16_t port);
/** @return false if @p sa is neither AF_INET nor AF_INET6 */
bool splice_addr_from_sockaddr(const struct sockaddr *sa, SpliceAddr *ret);
/** @return size of the address written to @p ret: AF_INET for mapped ones */
socklen_t splice_addr_to_sockaddr(const SpliceAddr *a, struct sockaddr_storage *ret);
