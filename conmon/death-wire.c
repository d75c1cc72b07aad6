#include "config.h"

#include "conmon/death-wire.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#define N_WIRES 2

static const char *const reader_names[N_WIRES] = {"death-wire.0.r", "death-wire.1.r"};
static const char *const writer_names[N_WIRES] = {"death-wire.0.w", "death-wire.1.w"};

/* pipe2(2) gives the reader the lower number; exchange them if @writer_first. */
static int make_pipe(int *ret_reader, int *ret_writer, bool writer_first)
{
	int ends[2], copy;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	if (writer_first) {
		copy = fcntl(ends[0], F_DUPFD_CLOEXEC, ends[1] + 1);
		if (copy < 0) {
			int r = -errno;

			close(ends[0]);
			close(ends[1]);
			return r;
		}
		close(ends[0]);
		ends[0] = copy;
	}
	*ret_reader = ends[0];
	*ret_writer = ends[1];
	return 0;
}

int death_wire_open(DeathWire *wire, FdStore *store)
{
	for (int i = 0; i < N_WIRES; i++) {
		int r;

		wire->readers[i] = fd_store_get(store, reader_names[i]);
		wire->writers[i] = fd_store_get(store, writer_names[i]);
		if (wire->readers[i] >= 0 && wire->writers[i] >= 0)
			continue;
		if ((r = make_pipe(&wire->readers[i], &wire->writers[i], i == 1)) < 0 ||
			(r = fd_store_replace(store, reader_names[i], wire->readers[i])) < 0 ||
			(r = fd_store_replace(store, writer_names[i], wire->writers[i])) < 0)
			return r;
	}
	return 0;
}

int death_wire_arm(const DeathWire *wire)
{
	for (int i = 0; i < N_WIRES; i++) {
		if (fcntl(wire->readers[i], F_SETOWN, getpid()) < 0 ||
			fcntl(wire->readers[i], F_SETSIG, SIGKILL) < 0 ||
			fcntl(wire->readers[i], F_SETFL, O_NONBLOCK | O_ASYNC) < 0)
			return -errno;
		/* Our copies must not hold the line up. The readers go with exec. */
		close(wire->writers[i]);
	}
	return 0;
}

void death_wire_close(FdStore *store)
{
	for (int i = 0; i < N_WIRES; i++) {
		fd_store_close(store, reader_names[i]);
		fd_store_close(store, writer_names[i]);
	}
}
