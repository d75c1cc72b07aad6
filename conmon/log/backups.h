#pragma once
/*
 * The backups of a rotated log: path.1 is the newest; each is plain or compressed (path.1.zst, path.1.gz).
 *
 * Only one form of a number exists, except after a SIGKILL between the two steps of log_file_compress's end, which is finished before
 * anything else is done with backups.
 */
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define BACKUP_NAME_MAX (PATH_MAX + 32)
#define BACKUP_GAP_MAX 16	/* numbers in a row without a file: then there are no older ones */

typedef enum { BACKUP_PLAIN, BACKUP_ZSTD, BACKUP_GZIP, BACKUP_FORMS } BackupForm;

/** Name of backup @p number in a form. */
void backup_name(char name[BACKUP_NAME_MAX], const char *path, int number, BackupForm form);

/** Name under which a backup is compressed to that form before it has its own. */
void backup_temporary(char name[BACKUP_NAME_MAX], const char *path, BackupForm form);

/**
 * Make number 1 free: each backup up to the first gap gets the next number, the one of number @p max goes. May be interrupted anywhere and
 * done again: then there is a gap already.
 */
void backups_shift(const char *path, int max);

/** Remove the oldest as far as all together have more than @p bytes; nothing if that is 0 or less. */
void backups_trim(const char *path, int max, int64_t bytes);
