/*
 * Transport of drivers that append to a file: every batch exactly once, records whole, limits and rotation.
 *
 * Theory of operation. A batch is written down in shared memory first: which bytes of which ring, with which time stamp, and
 * the size of the file before (lseek to its end, which leaves the file position there). Then one write(2). The file is opened for
 * append, so the position afterwards is the end of what was written. A successor that finds the phase WRITING
 * formats the same bytes again, which gives the same batch, asks the position how much of it is in the file, and appends the rest.
 *
 *   IDLE ── batch noted ──▶ WRITING ── all written ──▶ position of the stream moves ──▶ IDLE
 *                              │ error with a torn record at the end (full disk)
 *                              └──▶ CUTTING ── truncated to the last whole record ──▶ position moves ──▶ IDLE
 *
 * Others than regular files can't be cut. If a FIFO has taken a part of a record when its batch is given up, the rest of that record is kept (RESTING).
 *
 * What must never happen: a record after a torn one on the same line, a position that moves before its record is written.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/shared-memory.h"

#include "conmon/diag.h"
#include "conmon/log/file-compress.h"
#include "conmon/log/file-rotate.h"

enum { IDLE, WRITING, CUTTING, RESTING };

static void set_phase(LogFile *file, int phase)
{
	atomic_store_explicit(&file->phase, phase, memory_order_release);
}

/* The input of the noted batch: a range of its ring, or the note about a loss. */
static void batch_load(const LogSink *sink, LogContext *ctx, LogBatch *batch, char *note, size_t note_size)
{
	const LogFile *file = &sink->file;

	memset(batch, 0, sizeof(*batch));
	batch->stream = file->stream;
	batch->stamp = &file->stamp;
	batch->urgency = LOG_FINISH;
	batch->out = ctx->out;
	batch->room = LOG_OUT_SIZE;
	if (file->is_note) {
		batch->data = note;
		batch->size = log_note_text(sink, note, note_size);
		return;
	}
	batch->data = ring_at(ctx->rings[file->stream], log_mark_pos(file->from));
	batch->size = (size_t)(log_mark_pos(file->to) - log_mark_pos(file->from));
	batch->mid_line = log_mark_is_mid_line(file->from);
}

static void batch_commit(LogSink *sink)
{
	LogFile *file = &sink->file;

	if (file->is_note) {
		log_note_done(sink, file->noted_bytes_after, file->noted_lines_after);
	} else {
		atomic_store_explicit(&sink->mark[file->stream], file->to, memory_order_release);
	}
	file->total = file->total_before + (int64_t)file->made;
	set_phase(file, IDLE);
}

/* Cut the torn record off and let the position stand behind the last whole one. Repeatable. */
static void torn_cut(LogSink *sink)
{
	LogFile *file = &sink->file;
	struct stat st;

	/* Only what we wrote ourselves: another writer's bytes may have come behind. */
	if (file->torn != file->keep && fstat(file->fd, &st) == 0 && st.st_size == file->offset + (int64_t)file->torn)
		(void)!ftruncate(file->fd, file->offset + (int64_t)file->keep);
	if (!file->is_note) {
		file->to = file->keep_to;
		file->made = file->keep;
		batch_commit(sink);
	}
	set_phase(file, IDLE);
}

static void torn_note(LogSink *sink, LogContext *ctx, uint64_t written)
{
	LogFile *file = &sink->file;
	char note[128];
	LogBatch batch;

	batch_load(sink, ctx, &batch, note, sizeof(note));
	batch.room = written;
	sink->driver->format(sink, &batch);
	file->torn = written;
	file->keep = batch.made;
	file->keep_to = log_mark(log_mark_pos(file->from) + batch.used,
			batch.used ? batch.ends_mid_line : log_mark_is_mid_line(file->from));
	set_phase(file, CUTTING);
	torn_cut(sink);
}

/* How much of the noted batch is in the file already. */
static uint64_t batch_written(const LogFile *file)
{
	int64_t position;

	if (!file->is_regular)
		return file->done;
	position = lseek(file->fd, 0, SEEK_CUR);
	if (position == file->offset)
		return 0;
	if (position < file->offset || position > file->offset + (int64_t)file->made)
		return file->made;	/* someone else truncated or appended meanwhile: a write has happened, wholly as it seems */
	return (uint64_t)(position - file->offset);
}

/* Write what is missing of the noted batch, whose text is in ctx->out. */
static int batch_write(LogSink *sink, LogContext *ctx, uint64_t done)
{
	LogFile *file = &sink->file;

	while (done < file->made) {
		ssize_t n = write(file->fd, ctx->out + done, file->made - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int error = errno;

			if (error == EAGAIN)	/* a FIFO or terminal: goes on later */
				return -EAGAIN;
			torn_note(sink, ctx, done);
			return -error;
		}
		done += (uint64_t)n;
		file->done = done;
	}
	batch_commit(sink);
	return 0;
}

/* Write the end of a record whose batch has been given up. */
static int rest_write(LogFile *file)
{
	while (file->done < file->rest_size) {
		ssize_t n = write(file->fd, file->rest + file->done, file->rest_size - file->done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return -EAGAIN;
		if (n < 0)
			break;	/* its reader has gone, and with it what it had read */
		file->done += (uint64_t)n;
	}
	set_phase(file, IDLE);
	return 0;
}

/* Finish a batch that was begun, by us or by a killed predecessor. */
static int batch_resume(LogSink *sink, LogContext *ctx)
{
	LogFile *file = &sink->file;
	char note[128];
	LogBatch batch;

	switch (atomic_load_explicit(&file->phase, memory_order_acquire)) {
	case WRITING:
		batch_load(sink, ctx, &batch, note, sizeof(note));
		sink->driver->format(sink, &batch);
		return batch_write(sink, ctx, batch_written(file));
	case CUTTING:
		torn_cut(sink);
		return 0;
	case RESTING:
		return rest_write(file);
	default:
		return 0;
	}
}

/*
 * A disk that was full is asked for the room of one record first: an attempt that has to be cut away again would be seen by whoever reads
 * the file at that moment. @return 0, or the error that the write would have had
 */
static int ask_for_room(const LogSink *sink, const LogContext *ctx, const LogBatch *batch)
{
	const LogFile *file = &sink->file;
	const char *end;

	if (!sink->error || !file->is_regular)
		return 0;
	end = memchr(ctx->out, '\n', batch->made);
	if (!end)
		return 0;
	if (fallocate(file->fd, FALLOC_FL_KEEP_SIZE, lseek(file->fd, 0, SEEK_END), end + 1 - (const char *)ctx->out) == 0)
		return 0;
	return errno == ENOSPC || errno == EDQUOT ? -errno : 0; /* not every file system can tell */
}

/* Note the batch that stands formatted in ctx->out, and write it. */
static int batch_begin(LogSink *sink, LogContext *ctx, const LogBatch *batch)
{
	LogFile *file = &sink->file;
	int r = ask_for_room(sink, ctx, batch);

	if (r < 0)
		return r;
	file->stream = batch->stream;
	file->stamp = *batch->stamp;
	file->made = batch->made;
	file->done = 0;
	file->total_before = file->total;
	file->offset = file->is_regular ? lseek(file->fd, 0, SEEK_END) : -1;
	set_phase(file, WRITING);
	return batch_write(sink, ctx, 0);
}

static bool total_is_reached(const LogFile *file)
{
	return file->total_max > 0 && file->is_regular && file->total >= file->total_max;
}

/* C-158: everything later is left out, as asked; no loss to be told. */
static ssize_t skip_all(LogSink *sink, const Ring *ring, unsigned stream)
{
	uint64_t head = ring_head(ring);
	uint64_t from = log_mark_pos(sink->mark[stream]);

	atomic_store_explicit(&sink->mark[stream], log_mark(head, false), memory_order_release);
	return (ssize_t)(head - from);
}

/* The limits as bounds of one batch (C-155, C-158). @return whether the present file has room for no record */
static void batch_bound(const LogFile *file, LogBatch *batch, int64_t size)
{
	batch->room = LOG_OUT_SIZE;
	batch->stop_after = 0;
	if (!file->is_regular)
		return;
	if (file->total_max > 0)
		batch->stop_after = (size_t)(file->total_max - file->total);
	if (file->size_max <= 0)
		return;
	if (size == 0 && file->size_max < LOG_OUT_SIZE) {
		/* A record larger than the limit is written alone: up to the limit, but one in any case. */
		if (batch->stop_after == 0 || batch->stop_after > (size_t)file->size_max)
			batch->stop_after = (size_t)file->size_max;
		return;
	}
	if (size >= file->size_max)
		batch->room = 0;
	else if (file->size_max - size < (int64_t)batch->room)
		batch->room = (size_t)(file->size_max - size);
}

static void batch_format(const LogSink *sink, LogBatch *batch)
{
	int64_t size_max = sink->file.size_max;

	sink->driver->format(sink, batch);
	/* On an empty file the batch may have gone one record beyond the limit; only a single record may. */
	if (size_max > 0 && batch->room == LOG_OUT_SIZE && sink->file.is_regular && batch->made > (size_t)size_max) {
		size_t made = batch->made;

		batch->room = (size_t)size_max;
		sink->driver->format(sink, batch);
		if (batch->made == 0) {
			batch->room = made;
			batch->stop_after = 1;
			sink->driver->format(sink, batch);
		}
	}
}

static ssize_t file_pump(LogSink *sink, LogContext *ctx, unsigned stream, LogUrgency urgency)
{
	LogFile *file = &sink->file;
	Ring *ring = ctx->rings[stream];
	uint64_t from;
	LogBatch batch = { 0 };
	int r = batch_resume(sink, ctx);

	if (r < 0)
		return r;
	from = log_mark_pos(sink->mark[stream]);
	if (ring_head(ring) == from)
		return 0;
	if (total_is_reached(file))
		return skip_all(sink, ring, stream);

	if (file->age_max > 0 && log_stamp(ctx)->sec - file->born >= file->age_max)
		log_file_rotate_if_possible(sink, ctx);
	batch.data = ring_at(ring, from);
	batch.size = (size_t)(ring_head(ring) - from);
	batch.stream = stream;
	batch.mid_line = log_mark_is_mid_line(sink->mark[stream]);
	batch.urgency = urgency;
	batch.stamp = log_stamp(ctx);
	batch.out = ctx->out;
	batch_bound(file, &batch, file->size_max > 0 && file->is_regular ? lseek(file->fd, 0, SEEK_END) : 0);
	batch_format(sink, &batch);
	if (batch.made == 0 && batch.is_full) {
		log_file_rotate_if_possible(sink, ctx);
		batch.is_full = false;
		batch_bound(file, &batch, 0);
		batch_format(sink, &batch);
	}
	if (batch.used == 0)
		return 0;
	file->is_note = false;
	file->from = sink->mark[stream];
	file->to = log_mark(from + batch.used, batch.ends_mid_line);
	r = batch_begin(sink, ctx, &batch);
	return r < 0 ? r : (ssize_t)batch.used;
}

static int file_note(LogSink *sink, LogContext *ctx)
{
	LogFile *file = &sink->file;
	char note[128];
	LogBatch batch;
	int r = batch_resume(sink, ctx);

	if (r < 0)
		return r;
	if (sink->lost_bytes == sink->noted_bytes || total_is_reached(file))
		return 0;
	file->is_note = true;
	file->stream = 1;
	file->stamp = *log_stamp(ctx);
	file->noted_bytes_after = sink->lost_bytes;
	file->noted_lines_after = sink->lost_lines;
	batch_load(sink, ctx, &batch, note, sizeof(note));
	sink->driver->format(sink, &batch);
	return batch_begin(sink, ctx, &batch);
}

void log_file_prepare(LogSink *sink, const ConmonOptions *options, const char *path)
{
	LogFile *file = &sink->file;

	file->path = path;
	file->size_max = options->log_size_max;
	file->total_max = options->log_global_size_max;
	file->rotate = options->log_rotate;
	file->max_files = options->log_max_files;
	file->age_max = options->log_rotate_age;
	file->backups_max = options->log_backups_max;
	file->compress_program = options->log_compress_program;
	file->compress_form = options->log_compress_gzip ? BACKUP_GZIP : BACKUP_ZSTD;
	file->compress_pidfd = -1;
	file->rest = shared_memory_new(LOG_OUT_SIZE);
	if (!file->rest)
		abort();
}

static int file_open(LogSink *sink, LogContext *ctx, unsigned index)
{
	LogFile *file = &sink->file;
	struct stat st;
	int fd = fd_store_get(ctx->store, log_file_fd_name(sink));

	(void)index;
	if (fd < 0) {	/* only the k8s-file has to be there before conmon returns (C-22) */
		fd = log_k8s_open(file->path);
		if (fd < 0)
			return fd;
		if (fd_store_put(ctx->store, log_file_fd_name(sink), fd) < 0) {
			fd_close(fd);
			return -ENOBUFS;
		}
	}
	file->fd = fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	file->is_regular = S_ISREG(st.st_mode);
	if (!file->is_regular) {
		(void)fd_set_nonblock(fd, true);	/* nobody waits for the reader of a FIFO or a stopped terminal */
		if (ctx->watch)
			ctx->watch(sink, ctx);
	}
	if (!file->is_opened) {
		file->total = file->is_regular ? st.st_size : 0;
		file->born = time(NULL);
		file->is_opened = true;
	}
	log_file_compress_recover(sink, ctx);
	log_file_rotate_recover(sink, ctx);
	(void)batch_resume(sink, ctx);	/* errors come again with the next batch */
	return 0;
}

/* Of a batch that is given up: nothing, or the end of the record that a FIFO has begun to take. */
static void file_release(LogSink *sink, LogContext *ctx, bool is_end)
{
	LogFile *file = &sink->file;
	char note[128];
	LogBatch batch;

	(void)is_end;
	if (atomic_load_explicit(&file->phase, memory_order_acquire) != WRITING)
		return;
	batch_load(sink, ctx, &batch, note, sizeof(note));
	if (file->done > 0)
		batch.stop_after = file->done;	/* the record that this is in, or ends, is the last */
	else
		batch.room = 0;
	sink->driver->format(sink, &batch);
	if (!file->is_note)
		file->to = log_mark(log_mark_pos(file->from) + batch.used,
			batch.used ? batch.ends_mid_line : log_mark_is_mid_line(file->from));
	file->rest_size = batch.made - file->done;
	file->made = batch.made;
	memcpy(file->rest, ctx->out + file->done, (size_t)file->rest_size);
	file->done = 0;
	if (file->is_note && batch.made == 0)
		set_phase(file, IDLE);
	else
		batch_commit(sink);
	if (file->rest_size > 0)
		set_phase(file, RESTING);
}

static int file_reopen(LogSink *sink, LogContext *ctx)
{
	int r = batch_resume(sink, ctx);

	return r < 0 ? r : log_file_rotate(sink, ctx);
}

static int file_sync(LogSink *sink, LogContext *ctx)
{
	if (ctx->options->no_sync_log || !sink->file.is_regular)
		return 0;
	return fsync(sink->file.fd) < 0 ? -errno : 0;
}

const LogTransport log_file_transport = {
	.open = file_open,
	.pump = file_pump,
	.note = file_note,
	.reopen = file_reopen,
	.sync = file_sync,
	.release = file_release,
	.stop = log_file_compress_stop,
};
