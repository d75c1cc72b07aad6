#pragma once
/*
 * One epoll(7) loop with timers. Single-threaded; callbacks may add and remove any source or timer, their own included.
 * The loop's epoll descriptor is registered in the given FdStore as "<name>.epoll" (replacing that of a dead predecessor).
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/types.h>

#include "fd-store.h"

typedef struct EventLoop EventLoop;
typedef struct EventSource EventSource;
typedef struct EventTimer EventTimer;

typedef void (*EventFdFn)(void *data, uint32_t events);
typedef void (*EventTimerFn)(void *data);
typedef void (*EventKeyFn)(void *data, uint32_t key, uint32_t events);

/** Monotonic clock, milliseconds. */
uint64_t event_now_ms(void);
/** Monotonic clock, nanoseconds. */
uint64_t event_now_ns(void);

/** @return the loop or NULL with errno. @p store may be NULL (tests). */
EventLoop *event_loop_new(FdStore *store, const char *name);
/** Frees the loop with all sources and timers; no callback runs; watched descriptors stay open. NULL is fine. */
void event_loop_free(EventLoop *loop);

/**
 * Watch @p fd (borrowed; remove the source before closing it) for EPOLL* @p events.
 *
 * @return 0; -EPERM if the descriptor can't be polled (regular file); other -errno
 */
int event_loop_add_fd(
	EventLoop *loop, int fd, uint32_t events, EventFdFn fn, void *data, EventSource **ret_source);
/** Change the watched events; 0 keeps the source silent but for EPOLLERR and EPOLLHUP. */
int event_source_set_events(EventSource *source, uint32_t events);
/** Stop watching and free; NULL is fine. Pending events of it are dropped. */
void event_source_remove(EventSource *source);
/** Stop watching entirely (also EPOLLERR/EPOLLHUP) without freeing; set_events() with anything watches again. */
int event_source_mute(EventSource *source);

/*
 * Descriptors in great number: no source for each, but a key, and one function for all. They leave the loop by being closed.
 */
/**
 * @param fn    gets the events, after those of the sources that came in the same wait
 * @param end   called after each wait that had any
 * @param data  for both
 */
void event_loop_set_keyed(EventLoop *loop, EventKeyFn fn, EventTimerFn end, void *data);
/** Watch @p fd, or with @p again change what is watched: with EPOLLET what is there already is reported once more. @return 0 or -errno */
int event_loop_watch_key(EventLoop *loop, int fd, uint32_t events, uint32_t key, bool again);

/** Run @p fn once in @p delay_ms; the timer stays and can be set again. @return the timer (never NULL: out of memory aborts). */
EventTimer *event_loop_add_timer(EventLoop *loop, uint64_t delay_ms, EventTimerFn fn, void *data);
/** Arm (again) @p delay_ms from now. */
void event_timer_set(EventTimer *timer, uint64_t delay_ms);
void event_timer_stop(EventTimer *timer);
bool event_timer_is_armed(const EventTimer *timer);
void event_timer_free(EventTimer *timer);

/**
 * Wait (up to @p max_ms, -1 for ever; timers shorten it) and dispatch what is there.
 *
 * @return number of callbacks run, or -errno (never -EINTR)
 */
int event_loop_step(EventLoop *loop, int max_ms);
/** Steps until event_loop_quit(). @return the value given to it, or -errno */
int event_loop_run(EventLoop *loop);
void event_loop_quit(EventLoop *loop, int value);

/** The epoll descriptor, for nesting in another poll. */
int event_loop_fd(const EventLoop *loop);
/** Milliseconds until the next timer, 0 if overdue, -1 if none is armed. */
int event_loop_timeout(const EventLoop *loop);
/** Called before each wait; for heartbeats. */
void event_loop_set_tick(EventLoop *loop, EventTimerFn fn, void *data);

/**
 * Receive signals as callbacks: blocks them for the process and reads a signalfd(2).
 *
 * @param signals  zero-terminated list
 * @param fn       gets the signal number in @p events
 */
int event_loop_add_signals(
	EventLoop *loop, const int *signals, EventFdFn fn, void *data, EventSource **ret_source);
