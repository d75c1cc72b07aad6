/*
 * Control FIFOs: contract section 9. Each FIFO has a small ring of its own, filled like the container's streams, so what was
 * written is acted upon through any SIGKILL; acts may be repeated without harm.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "conmon/diag.h"
#include "conmon/monitor-private.h"

#define CONTROL_LINE_MAX 200	/* bytes; a longer line is ignored (C-129) */
#define CONTROL_VALUE_MAX 1000	/* C-127 */
#define FILLS_PER_WAKE_UP 16

#define CONTROL_RESIZE 1
#define CONTROL_REOPEN 2

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Next decimal word of [*p, end), at most CONTROL_VALUE_MAX. */
static bool take_number(const char **p, const char *end, int *ret)
{
	const char *s = *p;
	int value = 0;

	while (s < end && is_blank(*s))
		s++;
	if (s == end || *s < '0' || *s > '9')
		return false;
	for (; s < end && *s >= '0' && *s <= '9'; s++) {
		value = value * 10 + (*s - '0');
		if (value > CONTROL_VALUE_MAX)
			return false;
	}
	if (s < end && !is_blank(*s))
		return false;
	*p = s;
	*ret = value;
	return true;
}

static void resize(Monitor *m, int rows, int columns)
{
	struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns };
	int fd;

	if (!m->conmon->options->terminal)
		return;	/* C-132 */
	fd = fd_store_get(m->store, FD_CONSOLE);
	if (fd < 0) {
		m->st->wanted_rows = rows + 1;
		m->st->wanted_columns = columns + 1;
		return;
	}
	if (ioctl(fd, TIOCSWINSZ, &size) < 0)
		diag_warn_errno(errno, "Failed to set terminal size:");
}

void control_apply_resize(Monitor *m)
{
	int rows = m->st->wanted_rows, columns = m->st->wanted_columns;

	if (rows > 0 && columns > 0)
		resize(m, rows - 1, columns - 1);
	m->st->wanted_rows = m->st->wanted_columns = 0;
}

/* Output that was there before a request is read before it is acted upon; see monitor.c. */
static void act_ctl(Monitor *m, const char *p, const char *end)
{
	int type, a, b;

	if (!take_number(&p, end, &type) || !take_number(&p, end, &a) || !take_number(&p, end, &b) ||
			(type != CONTROL_RESIZE && type != CONTROL_REOPEN)) {
		diag_warn("Ignoring a control message that is not \"1 ROWS COLUMNS\" or \"2 0 0\"");
		return;
	}
	if (type == CONTROL_RESIZE)
		resize(m, a, b);
	else
		sinks_reopen(m);
}

static void act_winsz(Monitor *m, const char *p, const char *end)
{
	int rows, columns;

	if (take_number(&p, end, &rows) && take_number(&p, end, &columns))
		resize(m, rows, columns);
	else
		diag_warn("Ignoring a window size that is not \"ROWS COLUMNS\"");
}

/* Act on all complete lines. */
static void control_parse(Monitor *m, unsigned owner)
{
	Ring *ring = &m->st->rings[owner];

	for (;;) {
		uint64_t mark = m->st->control_mark[owner], pos = log_mark_pos(mark);
		bool skips = log_mark_is_mid_line(mark);
		size_t size = (size_t)(ring_head(ring) - pos);
		const char *line = ring_at(ring, pos);
		const char *eol = memchr(line, '\n', size);

		if (!eol) {
			if (size >= CONTROL_LINE_MAX || (skips && size > 0))
				m->st->control_mark[owner] = log_mark(pos + size, true);
			return;
		}
		if (skips || eol - line >= CONTROL_LINE_MAX)
			diag_warn("Ignoring a control message of %d bytes or more", CONTROL_LINE_MAX);
		else if (owner == OWNER_CTL)
			act_ctl(m, line, eol);
		else
			act_winsz(m, line, eol);
		m->st->control_mark[owner] = log_mark(pos + (uint64_t)(eol - line) + 1, false);
	}
}

void control_serve(Monitor *m, unsigned owner)
{
	Ring *ring = &m->st->rings[owner];

	if (!m->control_source[owner])
		return;
	for (int i = 0; i < FILLS_PER_WAKE_UP; i++) {
		size_t room = ring_free(ring, log_mark_pos(m->st->control_mark[owner]));

		control_parse(m, owner);
		if (stage_fill(&m->st->stage, owner, m->control_fd[owner], ring, room) <= 0)
			break;
	}
	control_parse(m, owner);
}

static void on_ctl(void *data, uint32_t events)
{
	(void)events;
	control_serve(data, OWNER_CTL);
}

static void on_winsz(void *data, uint32_t events)
{
	(void)events;
	control_serve(data, OWNER_WINSZ);
}

static int add_fifo(Monitor *m, unsigned owner, const char *name, EventFdFn fn)
{
	int fd = fd_store_get(m->store, name);

	if (fd < 0 || m->control_source[owner])
		return 0;
	m->control_fd[owner] = fd;
	return event_loop_add_fd(m->loop, fd, EPOLLIN, fn, m, &m->control_source[owner]);
}

int control_open(Monitor *m)
{
	int r = add_fifo(m, OWNER_CTL, FD_CTL, on_ctl);

	if (r >= 0)
		r = add_fifo(m, OWNER_WINSZ, FD_WINSZ, on_winsz);
	if (r < 0)
		return r;
	control_parse(m, OWNER_CTL);	/* what a killed predecessor had not come to */
	control_parse(m, OWNER_WINSZ);
	return 0;
}
