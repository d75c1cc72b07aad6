#pragma once
/* Between splice-flow.c (entries and events), splice-pump.c (moving bytes) and splice-teardown.c (ends). */
#include <sys/types.h>

#include "netns-helper/splice-flow.h"
#include "netns-helper/splice-pipes.h"

#define SPLICE_NO_FLOW UINT32_MAX

/* What this process knows about a flow; a successor finds it out again. */
typedef struct {
	bool readable[2], writable[2], urgent[2], watched[2];
	bool told[2]; /* watched for EPOLLOUT, too: from the first time on that the side was full */
	bool queued; /* in the ready list */
	bool ending; /* in the list of those that are over */
	bool hung[2]; /* its socket is closed, and not because both sides had ended it: it was reset */
	bool hurried; /* half closed, and asked sooner for life signs */
	bool dry; /* nothing more will come from the side that was reset */
	uint8_t reset_tries; /* not 0: in the reset list */
	uint32_t in_pipe[2]; /* bytes, by source side */
	uint32_t next; /* in the ready, reset or ending list */
} SpliceLocal;

struct SpliceFlows {
	SpliceTable *table;
	SpliceKeep *keep;
	EventLoop *loop;
	SplicePipes *pipes;
	EventTimer *again; /* flows whose budget was used up */
	EventTimer *endings; /* flows that are over */
	EventTimer *resets; /* flows that wait before a reset */
	EventTimer *half_closed;
	SpliceConnectedFn connected;
	void *data;
	uint32_t ready_head, ready_tail;
	uint32_t reset_head;
	uint32_t ending_head;
	uint32_t n_free_flows;
	SpliceLocal local[SPLICE_FLOWS_MAX];
	uint32_t free_flows[SPLICE_FLOWS_MAX]; /* stacks of indices */
};

typedef enum {
	PUMP_BLOCKED, /* until an event */
	PUMP_MORE, /* budget used up */
	PUMP_GONE, /* the flow has ended */
} PumpResult;

static inline uint32_t splice_flow_index(const SpliceFlows *flows, const SpliceFlow *flow)
{
	return (uint32_t)(flow - flows->table->flows);
}

/* --- splice-flow.c --- */

/** Let this flow have another turn, after the events of this one; unless it is about to end. */
void splice_flow_queue(SpliceFlows *flows, uint32_t i);
/** Take it out of the ready list, if it is in there: the link is wanted for another list. */
void splice_flow_unqueue(SpliceFlows *flows, uint32_t i);
/** Out of the list that begins at @p head, and ends at @p tail unless that is NULL. */
void splice_flow_unlink(SpliceFlows *flows, uint32_t *head, uint32_t *tail, uint32_t i);
/** The socket of this side is full: the next event tells when it is not. */
void splice_flow_wait_until_writable(SpliceFlows *flows, SpliceFlow *flow, int side);

/* --- splice-pump.c --- */

/** Move what can be moved, both ways, until it blocks or others have their turn. */
void splice_pump(SpliceFlows *flows, SpliceFlow *flow);
/** From the socket of @p side into its pipe, which is empty. @return whether there is more to do at once */
bool splice_pump_in(SpliceFlows *flows, SpliceFlow *flow, int side, bool *ret_reset);
/** From the pipe of @p side to the other socket. @return bytes; 0: blocked; < 0: the destination was reset */
ssize_t splice_pump_out(SpliceFlows *flows, SpliceFlow *flow, int side);

/* --- splice-teardown.c --- */

/** Lists and timers; the loop is in @p flows. */
void splice_teardown_init(SpliceFlows *flows);
void splice_teardown_done(SpliceFlows *flows);
/** The stream of @p side has ended, and all of it is passed on: tell the other one. */
PumpResult splice_teardown_half(SpliceFlows *flows, SpliceFlow *flow, int side);
/** The socket of @p side was reset. Its peer gets what had come before, then a reset too. What waits for @p side has nowhere to go. */
PumpResult splice_teardown_reset(SpliceFlows *flows, SpliceFlow *flow, int side);
/** A side is marked SPLICE_HALF_RESET: from here on only splice_teardown_go_on() moves bytes. */
void splice_teardown_begin_reset(SpliceFlows *flows, SpliceFlow *flow);
/** Before a reset: what had come from the side that was reset still moves. */
PumpResult splice_teardown_go_on(SpliceFlows *flows, SpliceFlow *flow);
