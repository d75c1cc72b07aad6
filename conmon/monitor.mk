# The monitor process; included by local.mk.
conmon_monitor_sources = \
	conmon/attach.c \
	conmon/backlog.c conmon/backlog.h \
	conmon/console.c \
	conmon/control.c \
	conmon/exact-send.c conmon/exact-send.h \
	conmon/failure-text.c \
	conmon/input.c \
	conmon/linger.c conmon/linger.h \
	conmon/log/address.c \
	conmon/log/backups.c conmon/log/backups.h \
	conmon/log/datagram.c \
	conmon/log/driver.c conmon/log/driver.h \
	conmon/log/file.c \
	conmon/log/file-compress.c conmon/log/file-compress.h \
	conmon/log/file-rotate.c conmon/log/file-rotate.h \
	conmon/log/journald.c \
	conmon/log/json-file.c \
	conmon/log/k8s-file.c \
	conmon/log/record-cut.h \
	conmon/log/stream.c conmon/log/stream.h \
	conmon/log/syslog.c \
	conmon/monitor.c conmon/monitor.h conmon/monitor-private.h \
	conmon/notify-relay.c \
	conmon/rate.c conmon/rate.h \
	conmon/ring.c conmon/ring.h \
	conmon/sinks.c \
	conmon/source.c conmon/source.h
