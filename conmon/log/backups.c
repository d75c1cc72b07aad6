#include "config.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conmon/log/backups.h"

static const char *const suffixes[BACKUP_FORMS] = { "", ".zst", ".gz" };

void backup_name(char name[BACKUP_NAME_MAX], const char *path, int number, BackupForm form)
{
	snprintf(name, BACKUP_NAME_MAX, "%s.%d%s", path, number, suffixes[form]);
}

void backup_temporary(char name[BACKUP_NAME_MAX], const char *path, BackupForm form)
{
	snprintf(name, BACKUP_NAME_MAX, "%s%s.tmp", path, suffixes[form]);
}

/* @return whether there is a backup of that number; if so its bytes are added to *bytes */
static bool backup_look(const char *path, int number, int64_t *bytes)
{
	char name[BACKUP_NAME_MAX];
	bool found = false;
	struct stat st;

	for (BackupForm form = 0; form < BACKUP_FORMS; form++) {
		backup_name(name, path, number, form);
		if (lstat(name, &st) < 0)
			continue;
		*bytes += st.st_size;
		found = true;
	}
	return found;
}

static void backup_remove(const char *path, int number)
{
	char name[BACKUP_NAME_MAX];

	for (BackupForm form = 0; form < BACKUP_FORMS; form++) {
		backup_name(name, path, number, form);
		(void)unlink(name);
	}
}

static void backup_move(const char *path, int number)
{
	char from[BACKUP_NAME_MAX], to[BACKUP_NAME_MAX];

	for (BackupForm form = 0; form < BACKUP_FORMS; form++) {
		backup_name(from, path, number, form);
		backup_name(to, path, number + 1, form);
		(void)rename(from, to);
	}
}

void backups_shift(const char *path, int max)
{
	int64_t bytes = 0;
	int gap = 1;

	while (gap < max && backup_look(path, gap, &bytes))
		gap++;
	if (gap == max)
		backup_remove(path, max);	/* of another form than its successor it would stay beside it */
	for (int number = gap - 1; number >= 1; number--)
		backup_move(path, number);
}

void backups_trim(const char *path, int max, int64_t bytes)
{
	int64_t total = 0;
	int missing = 0;

	for (int number = 1; bytes > 0 && number <= max && missing < BACKUP_GAP_MAX; number++) {
		if (!backup_look(path, number, &total)) {
			missing++;
			continue;
		}
		missing = 0;
		if (total > bytes)
			backup_remove(path, number);
	}
}
