#include "config.h"

#include <stdlib.h>

#include "conmon/diag.h"
#include "conmon/linger.h"
#include "conmon/monitor-private.h"

#define LINGER_MS 3600000	/* a client that takes nothing for so long is given up */
#define LINGER_LOOK_MS 60000

struct Linger {
	Monitor m;	/* as much of it as sending needs */
	EventTimer *timer;
	void (*wake)(void *data);
	void *data;
};

static bool nobody_is_left(const MonitorState *st)
{
	for (unsigned i = 0; i < (unsigned)st->n_clients_high; i++)
		if (st->clients[i].is_used)
			return false;
	return true;
}

bool linger_is_over(const Linger *linger)
{
	return nobody_is_left(linger->m.st);
}

/* Send what they take; who has everything, or has taken nothing for too long, is closed. */
static void serve(Linger *l)
{
	Monitor *m = &l->m;
	uint64_t now_ms;

	(void)attach_send(m);
	now_ms = event_now_ms();	/* not before what it is compared with */
	for (unsigned i = 0; i < (unsigned)m->st->n_clients_high; i++) {
		const Client *client = &m->st->clients[i];

		if (!client->is_used)
			continue;
		if (!attach_has_output(m, client)) {
			attach_drop(m, i);
		} else if (client->progress_ms && now_ms - client->progress_ms >= LINGER_MS) {
			diag_warn("Attach client %u has not read for %d s since the container ended: closed", i, LINGER_MS / 1000);
			attach_drop(m, i);
		}
	}
	if (linger_is_over(l)) {
		event_timer_stop(l->timer);
		l->wake(l->data);
	}
}

static void on_client(void *data, uint32_t events)
{
	ClientView *view = data;
	Monitor *m = view->m;

	if (events & (EPOLLHUP | EPOLLERR))
		attach_drop(m, (unsigned)(view - m->views));
	else
		view->can_write = true;
	serve((Linger *)m);	/* its first member */
}

static void on_timer(void *data)
{
	Linger *l = data;

	event_timer_set(l->timer, LINGER_LOOK_MS);
	serve(l);
}

static void add_client(Monitor *m, unsigned index)
{
	ClientView *view = &m->views[index];

	view->m = m;
	if (event_loop_add_fd(m->loop, m->st->clients[index].fd, EPOLLOUT, on_client, view, &view->source) < 0)
		attach_drop(m, index);
}

Linger *linger_new(const Conmon *conmon, EventLoop *loop, void (*wake)(void *data), void *data)
{
	MonitorState *st = conmon->monitor;
	ExactTicket ticket;
	Linger *l;

	if (!conmon->shared->drain_done || nobody_is_left(st))
		return NULL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->m = (Monitor){ .conmon = conmon, .st = st, .store = conmon->store, .loop = loop };
	l->wake = wake;
	l->data = data;
	if (exact_send_recover(&st->send, &ticket)) {	/* of a reaper that was killed while it served them */
		attach_commit(&l->m, &ticket);
		exact_send_done(&st->send);
	}
	for (unsigned i = 0; i < (unsigned)st->n_clients_high; i++)
		if (st->clients[i].is_used)
			add_client(&l->m, i);
	l->timer = event_loop_add_timer(loop, 0, on_timer, l);
	return l;
}
