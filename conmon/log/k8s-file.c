/*
 * k8s-file, the format of the kubelet and of podman logs: contract section 10.2.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "conmon/log/driver.h"
#include "conmon/log/record-cut.h"
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
	char header[48];
	LogCut cut;

	(void)sink;
	header_make(header, batch);
	for (log_cut_begin(&cut, batch); log_cut_next(&cut);) {
		if (!log_cut_has_room(&cut, HEADER_SIZE + cut.length + 1))
			break;
		memcpy(cut.out, header, HEADER_SIZE);
		if (!cut.is_end)
			cut.out[HEADER_TAG] = 'P';
		memcpy(cut.out + HEADER_SIZE, cut.text, cut.length);
		cut.out += HEADER_SIZE + cut.length;
		*cut.out++ = '\n';
		if (!log_cut_take(&cut))
			break;
	}
	log_cut_end(&cut);
}

static bool k8s_is_wanted(const ConmonOptions *options)
{
	return options->log_k8s;
}

static void k8s_prepare(LogSink *sink, const ConmonOptions *options)
{
	sink->file.fd_name = FD_LOG_FILE;
	log_file_prepare(sink, options, options->log_k8s_path);
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
