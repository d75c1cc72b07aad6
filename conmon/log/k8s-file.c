/*
 * k8s-file, the format of the kubelet and of podman logs: contract section 10.2.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "conmon/log/driver.h"
#include "conmon/shared.h"

#define HEADER_SIZE 45	/* "<stamp> stdout F " (C-142) */
#define HEADER_TAG 43

static void header_make(char header[48], const LogBatch *batch)
{
	memcpy(header, batch->stamp->text, LOG_STAMP_SIZE);
	memcpy(header + LOG_STAMP_SIZE, batch->stream == 0 ? " stdout F " : " stderr F ", 10);
}

/*
 * One record per line: header, content, LF. A line of more than LOG_PIECE_MAX bytes, and one whose end has not come
 * when readers should see it, gives P records (C-145, C-146).
 */
static void k8s_format(const LogSink *sink, LogBatch *batch)
{
	const char *p = batch->data, *end = p + batch->size;
	char *out = batch->out, *out_end = out + batch->room;
	char header[48];
	bool mid_line = batch->mid_line;

	(void)sink;
	header_make(header, batch);
	while (p < end) {
		size_t rest = (size_t)(end - p);
		size_t window = rest > LOG_PIECE_MAX + 1 ? LOG_PIECE_MAX + 1 : rest;
		const char *eol = memchr(p, '\n', window);
		size_t length = eol ? (size_t)(eol - p) : window;

		if (!eol) {
			if (batch->urgency == LOG_HOLD && rest <= LOG_PIECE_MAX)
				break;
			if (length > LOG_PIECE_MAX)
				length = LOG_PIECE_MAX;
		}
		if ((size_t)(out_end - out) < HEADER_SIZE + length + 1) {
			batch->is_full = true;
			break;
		}
		memcpy(out, header, HEADER_SIZE);
		if (!eol)
			out[HEADER_TAG] = 'P';
		memcpy(out + HEADER_SIZE, p, length);
		out += HEADER_SIZE + length;
		*out++ = '\n';
		p += length + (eol ? 1 : 0);
		mid_line = !eol;
		if (batch->stop_after && (size_t)(out - batch->out) >= batch->stop_after)
			break;
	}
	batch->used = (size_t)(p - batch->data);
	batch->made = (size_t)(out - batch->out);
	batch->ends_mid_line = mid_line;
}

static bool k8s_is_wanted(const ConmonOptions *options)
{
	return options->log_k8s;
}

static void k8s_prepare(LogSink *sink, const ConmonOptions *options)
{
	sink->file.fd_name = FD_LOG_FILE;
	sink->file.path = options->log_k8s_path;
	sink->file.size_max = options->log_size_max;
	sink->file.total_max = options->log_global_size_max;
	sink->file.rotate = options->log_rotate;
	sink->file.max_files = options->log_max_files;
	sink->file.age_max = options->log_rotate_age;
	sink->file.backups_max = options->log_backups_max;
}

int log_k8s_open(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);

	return fd < 0 ? -errno : fd;
}

const LogDriver log_k8s_file = {
	.name = "k8s-file",
	.transport = &log_file_transport,
	.is_wanted = k8s_is_wanted,
	.prepare = k8s_prepare,
	.format = k8s_format,
};
