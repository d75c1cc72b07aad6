#include "config.h"

#include "netns-helper/shortage.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <syslog.h>

#include "common/event-loop.h"

#define TEXT_MAX 256

static const char *describe(int error, unsigned limit, char *text)
{
	struct rlimit files = {0};

	switch (-error) {
	case EMFILE:
		(void)getrlimit(RLIMIT_NOFILE, &files);
		(void)snprintf(text, TEXT_MAX,
			"out of descriptors (the limit is %llu): new connections are refused until others end; a higher limit "
			"(ulimit -n) for whoever starts the helper allows more",
			(unsigned long long)files.rlim_cur);
		return text;
	case ENFILE:
		return "the host is out of descriptors (fs.file-max): new connections are refused until others end";
	case ENOBUFS:
		(void)snprintf(text, TEXT_MAX,
			"%u connections and sessions, more are not possible: new ones are refused until others end", limit);
		return text;
	default:
		return NULL;
	}
}

void shortage_note(const Helper *helper, int error, unsigned limit)
{
	uint64_t now_ms = event_now_ms(), last_ms = helper->shared->shortage_ms;
	char buf[TEXT_MAX];
	const char *text = describe(error, limit, buf);

	if (!text)
		return;
	helper->shared->shortage_ms = now_ms;
	if (last_ms && now_ms - last_ms < SHORTAGE_CALM_MS)
		return;
	fprintf(stderr, "%s\n", text);
	if (helper->events)
		event_log_emit(helper->events, NULL, LOG_WARNING, text, NULL);
}
