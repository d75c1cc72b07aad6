#include "config.h"

#include "common/event-loop.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "common/fd-util.h"

#define EVENTS_PER_WAIT 64
#define SIGNALS_PER_READ 8

struct EventSource {
	EventLoop *loop;
	int fd;
	bool in_set;
	bool dead; /* removed while events were being dispatched; freed afterwards */
	bool owns_fd; /* signalfd of our own */
	EventFdFn fn;
	void *data;
	EventSource *next, *prev; /* all sources of the loop; next also chains the dead */
};

struct EventTimer {
	EventLoop *loop;
	uint64_t due_ms;
	size_t at; /* index in the heap + 1; 0: not armed */
	EventTimerFn fn;
	void *data;
};

struct EventLoop {
	int epoll_fd;
	FdStore *store;
	char name[FD_STORE_NAME_MAX];
	unsigned n_signalfds;
	bool quit;
	int value;
	bool dispatching;
	EventSource *sources, *dead;
	EventTimer **heap; /* binary heap by due_ms */
	size_t n_armed, room;
	EventTimerFn tick;
	void *tick_data;
	EventKeyFn keyed;
	EventTimerFn keyed_end;
	void *keyed_data;
};

static void *must(void *p)
{
	if (!p)
		abort(); /* out of memory: the keeper starts us again */
	return p;
}

uint64_t event_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t event_now_ms(void)
{
	return event_now_ns() / 1000000u;
}

/* Register a descriptor of the loop itself, replacing that of a dead predecessor of the same name. */
static int register_fd(EventLoop *loop, const char *what, unsigned number, int fd)
{
	char name[FD_STORE_NAME_MAX + 16];

	if (!loop->store)
		return 0;
	(void)snprintf(name, sizeof(name), number ? "%s.%s%u" : "%s.%s", loop->name, what, number);
	return fd_store_replace(loop->store, name, fd);
}

static void unregister_close(EventLoop *loop, int fd)
{
	const char *name;
	int at;

	if (loop->store)
		for (size_t i = 0; fd_store_next(loop->store, &i, &name, &at);)
			if (at == fd)
				(void)fd_store_forget(loop->store, name);
	(void)fd_close(fd);
}

EventLoop *event_loop_new(FdStore *store, const char *name)
{
	EventLoop *loop = must(calloc(1, sizeof(*loop)));
	int r;

	loop->store = store;
	(void)snprintf(loop->name, sizeof(loop->name), "%s", name);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		r = errno;
		free(loop);
		errno = r;
		return NULL;
	}
	r = register_fd(loop, "epoll", 0, loop->epoll_fd);
	if (r < 0) {
		(void)fd_close(loop->epoll_fd);
		free(loop);
		errno = -r;
		return NULL;
	}
	return loop;
}

static void free_dead(EventLoop *loop)
{
	while (loop->dead) {
		EventSource *source = loop->dead;

		loop->dead = source->next;
		free(source);
	}
}

void event_loop_free(EventLoop *loop)
{
	if (!loop)
		return;
	while (loop->sources)
		event_source_remove(loop->sources);
	free_dead(loop);
	for (size_t i = 0; i < loop->n_armed; i++)
		loop->heap[i]->at = 0;
	free(loop->heap);
	unregister_close(loop, loop->epoll_fd);
	free(loop);
}

int event_loop_add_fd(
	EventLoop *loop, int fd, uint32_t events, EventFdFn fn, void *data, EventSource **ret_source)
{
	EventSource *source = must(calloc(1, sizeof(*source)));
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		int r = -errno;

		free(source);
		return r;
	}
	source->loop = loop;
	source->fd = fd;
	source->in_set = true;
	source->fn = fn;
	source->data = data;
	source->next = loop->sources;
	if (source->next)
		source->next->prev = source;
	loop->sources = source;
	if (ret_source)
		*ret_source = source;
	return 0;
}

int event_source_set_events(EventSource *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (epoll_ctl(source->loop->epoll_fd, source->in_set ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, source->fd,
		    &event) < 0)
		return -errno;
	source->in_set = true;
	return 0;
}

int event_source_mute(EventSource *source)
{
	if (source->in_set && epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL) < 0)
		return -errno;
	source->in_set = false;
	return 0;
}

void event_source_remove(EventSource *source)
{
	EventLoop *loop;

	if (!source || source->dead)
		return;
	loop = source->loop;
	(void)event_source_mute(source); /* ENOENT, EBADF: gone from the set already */
	if (source->prev)
		source->prev->next = source->next;
	else
		loop->sources = source->next;
	if (source->next)
		source->next->prev = source->prev;
	if (source->owns_fd)
		unregister_close(loop, source->fd);
	source->dead = true;
	source->next = loop->dead;
	loop->dead = source;
	if (!loop->dispatching)
		free_dead(loop);
}

/* --- keys: told from pointers, which are even, by their lowest bit --- */

void event_loop_set_keyed(EventLoop *loop, EventKeyFn fn, EventTimerFn end, void *data)
{
	loop->keyed = fn;
	loop->keyed_end = end;
	loop->keyed_data = data;
}

int event_loop_watch_key(EventLoop *loop, int fd, uint32_t events, uint32_t key, bool again)
{
	struct epoll_event event = {.events = events, .data.u64 = (uint64_t)key << 1 | 1};

	return epoll_ctl(loop->epoll_fd, again ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int dispatch_keyed(EventLoop *loop, const struct epoll_event *events, int n)
{
	int called = 0;

	for (int i = 0; i < n; i++) {
		if (!(events[i].data.u64 & 1))
			continue;
		loop->keyed(loop->keyed_data, (uint32_t)(events[i].data.u64 >> 1), events[i].events);
		called++;
	}
	if (called > 0)
		loop->keyed_end(loop->keyed_data);
	return called;
}

/* --- timers: a binary heap --- */

static void heap_place(EventLoop *loop, size_t i, EventTimer *timer)
{
	loop->heap[i] = timer;
	timer->at = i + 1;
}

static void heap_up(EventLoop *loop, size_t i)
{
	EventTimer *timer = loop->heap[i];

	while (i > 0 && loop->heap[(i - 1) / 2]->due_ms > timer->due_ms) {
		heap_place(loop, i, loop->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_place(loop, i, timer);
}

static void heap_down(EventLoop *loop, size_t i)
{
	EventTimer *timer = loop->heap[i];

	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= loop->n_armed)
			break;
		if (child + 1 < loop->n_armed && loop->heap[child + 1]->due_ms < loop->heap[child]->due_ms)
			child++;
		if (loop->heap[child]->due_ms >= timer->due_ms)
			break;
		heap_place(loop, i, loop->heap[child]);
		i = child;
	}
	heap_place(loop, i, timer);
}

EventTimer *event_loop_add_timer(EventLoop *loop, uint64_t delay_ms, EventTimerFn fn, void *data)
{
	EventTimer *timer = must(calloc(1, sizeof(*timer)));

	timer->loop = loop;
	timer->fn = fn;
	timer->data = data;
	event_timer_set(timer, delay_ms);
	return timer;
}

void event_timer_stop(EventTimer *timer)
{
	EventLoop *loop = timer->loop;
	size_t i;

	if (!timer->at)
		return;
	i = timer->at - 1;
	timer->at = 0;
	loop->n_armed--;
	if (i == loop->n_armed)
		return;
	heap_place(loop, i, loop->heap[loop->n_armed]);
	heap_up(loop, i);
	heap_down(loop, loop->heap[i]->at - 1);
}

void event_timer_set(EventTimer *timer, uint64_t delay_ms)
{
	EventLoop *loop = timer->loop;

	event_timer_stop(timer);
	if (loop->n_armed == loop->room) {
		loop->room = loop->room ? 2 * loop->room : 8;
		loop->heap = must(realloc(loop->heap, loop->room * sizeof(EventTimer *)));
	}
	timer->due_ms = event_now_ms() + delay_ms;
	loop->heap[loop->n_armed++] = timer;
	heap_up(loop, loop->n_armed - 1);
}

bool event_timer_is_armed(const EventTimer *timer)
{
	return timer->at > 0;
}

void event_timer_free(EventTimer *timer)
{
	if (!timer)
		return;
	event_timer_stop(timer);
	free(timer);
}

int event_loop_timeout(const EventLoop *loop)
{
	uint64_t now;

	if (!loop->n_armed)
		return -1;
	now = event_now_ms();
	if (loop->heap[0]->due_ms <= now)
		return 0;
	return loop->heap[0]->due_ms - now > 86400000u ? 86400000 : (int)(loop->heap[0]->due_ms - now);
}

static int run_timers(EventLoop *loop)
{
	uint64_t now = event_now_ms();
	size_t bound = loop->n_armed; /* a timer that arms itself for "now" waits for the next turn */
	int n = 0;

	while (loop->n_armed && bound-- > 0 && loop->heap[0]->due_ms <= now) {
		EventTimer *timer = loop->heap[0];

		event_timer_stop(timer);
		timer->fn(timer->data); /* may free the timer */
		n++;
	}
	return n;
}

int event_loop_step(EventLoop *loop, int max_ms)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	int timeout = event_loop_timeout(loop), n, called = 0;

	if (max_ms >= 0 && (timeout < 0 || timeout > max_ms))
		timeout = max_ms;
	if (loop->tick)
		loop->tick(loop->tick_data);
	n = epoll_wait(loop->epoll_fd, events, EVENTS_PER_WAIT, timeout);
	if (n < 0 && errno != EINTR)
		return -errno;
	loop->dispatching = true;
	for (int i = 0; i < n; i++) {
		EventSource *source = events[i].data.ptr;

		if (events[i].data.u64 & 1 || source->dead || !source->in_set)
			continue;
		source->fn(source->data, events[i].events);
		called++;
	}
	called += dispatch_keyed(loop, events, n);
	loop->dispatching = false;
	free_dead(loop);
	return called + run_timers(loop);
}

int event_loop_run(EventLoop *loop)
{
	loop->quit = false;
	while (!loop->quit) {
		int r = event_loop_step(loop, -1);

		if (r < 0)
			return r;
	}
	return loop->value;
}

void event_loop_quit(EventLoop *loop, int value)
{
	loop->quit = true;
	loop->value = value;
}

int event_loop_fd(const EventLoop *loop)
{
	return loop->epoll_fd;
}

void event_loop_set_tick(EventLoop *loop, EventTimerFn fn, void *data)
{
	loop->tick = fn;
	loop->tick_data = data;
}

/* --- signals --- */

typedef struct {
	EventFdFn fn;
	void *data;
	int fd;
} SignalWatch;

static void on_signalfd(void *data, uint32_t events)
{
	SignalWatch *watch = data;
	struct signalfd_siginfo info[SIGNALS_PER_READ];
	ssize_t n = read(watch->fd, info, sizeof(info));

	for (ssize_t i = 0; i < n / (ssize_t)sizeof(info[0]); i++)
		watch->fn(watch->data, info[i].ssi_signo);
}

int event_loop_add_signals(
	EventLoop *loop, const int *signals, EventFdFn fn, void *data, EventSource **ret_source)
{
	SignalWatch *watch;
	EventSource *source;
	sigset_t set;
	int fd, r;

	(void)sigemptyset(&set);
	for (; *signals; signals++)
		(void)sigaddset(&set, *signals);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	watch = must(calloc(1, sizeof(*watch))); /* lives as long as the loop's process */
	watch->fn = fn;
	watch->data = data;
	watch->fd = fd;
	r = register_fd(loop, "signals", loop->n_signalfds, fd);
	if (r == 0)
		r = event_loop_add_fd(loop, fd, EPOLLIN, on_signalfd, watch, &source);
	if (r < 0) {
		free(watch);
		unregister_close(loop, fd);
		return r;
	}
	loop->n_signalfds++;
	source->owns_fd = true;
	if (ret_source)
		*ret_source = source;
	return 0;
}
