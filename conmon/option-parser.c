#include "config.h"

#include "conmon/option-parser.h"

#include <errno.h>
#include <langinfo.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "conmon/text.h"
#include "conmon/utf8.h"

typedef struct {
	const OptionEntry *entries;
	int argc;
	char **argv;
	char *target;
	char *reason;
} Parser;

static int __attribute__((format(printf, 2, 3))) wrong(const Parser *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(p->reason, OPTION_REASON_MAX, format, args);
	va_end(args);
	return -EINVAL;
}

/* --- values --- */

static bool is_utf8(const char *text)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + strlen(text);

	while (p < end) {
		int n = utf8_length(p, end);

		if (n <= 0)
			return false;
		p += n;
	}
	return true;
}

/* C-16. The C library takes bytes above 127 for characters in the C locale, too; those who wait for the error do not. */
static bool is_valid_in_locale(const char *text)
{
	const char *charset = nl_langinfo(CODESET);
	mbstate_t state = {0};

	if (strcmp(charset, "UTF-8") == 0)
		return is_utf8(text);
	if (strcmp(charset, "ANSI_X3.4-1968") == 0) {
		while (*text != '\0' && (unsigned char)*text < 0x80)
			text++;
		return *text == '\0';
	}
	return mbsrtowcs(NULL, &text, 0, &state) != (size_t)-1;
}

static int set_integer(const Parser *p, const OptionEntry *e, const char *shown, const char *value)
{
	long long number;
	char *end;

	errno = 0;
	number = strtoll(value, &end, 0);
	if (*value == '\0' || *end != '\0')
		return wrong(p, "Cannot parse integer value “%.300s” for %s", value, shown);
	if (errno == ERANGE || (e->kind == OPTION_INT && (number < INT_MIN || number > INT_MAX)))
		return wrong(p, "Integer value “%.300s” for %s out of range", value, shown);
	if (e->kind == OPTION_INT)
		*(int *)(void *)(p->target + e->offset) = (int)number;
	else
		*(int64_t *)(void *)(p->target + e->offset) = number;
	return 0;
}

/* @shown: the option as the user knows it, for messages. */
static int set_value(const Parser *p, const OptionEntry *e, const char *shown, char *value)
{
	if (e->kind == OPTION_INT || e->kind == OPTION_INT64)
		return set_integer(p, e, shown, value);
	if (!is_valid_in_locale(value))
		return wrong(p, "Invalid byte sequence in conversion input");
	if (e->kind == OPTION_STRING)
		*(char **)(void *)(p->target + e->offset) = value;
	else
		words_add((char ***)(void *)(p->target + e->offset), value);
	return 0;
}

static void set_flag(const Parser *p, const OptionEntry *e)
{
	*(bool *)(void *)(p->target + e->offset) = true;
}

/* --- words --- */

static const OptionEntry *find_long(const Parser *p, const char *name, size_t size)
{
	for (const OptionEntry *e = p->entries; e->name[0]; e++)
		if (size < sizeof(e->name) && strncmp(e->name, name, size) == 0 && e->name[size] == '\0')
			return e;
	return NULL;
}

static const OptionEntry *find_short(const Parser *p, char name)
{
	for (const OptionEntry *e = p->entries; e->name[0]; e++)
		if (e->short_name == name)
			return e;
	return NULL;
}

/* "--name", "--name=value"; takes the next word if it needs it. */
static int take_long(const Parser *p, int *i)
{
	char *word = p->argv[*i], *name = word + 2, *equals = strchr(name, '=');
	size_t size = equals ? (size_t)(equals - name) : strlen(name);
	const OptionEntry *e = find_long(p, name, size);
	text_auto char *shown = e ? text_format("--%s", e->name) : NULL;

	if (strcmp(name, "help") == 0 || strcmp(name, "help-all") == 0)
		return 1;
	if (!e)
		return wrong(p, "Unknown option %.400s", word);
	if (e->kind == OPTION_FLAG) {
		set_flag(p, e); /* whatever is behind the sign: C-12 */
		return 0;
	}
	if (equals)
		return set_value(p, e, shown, equals + 1);
	if (*i + 1 >= p->argc)
		return wrong(p, "Missing argument for %s", shown);
	return set_value(p, e, shown, p->argv[++*i]);
}

/* "-x", "-xyz": one of the letters may take the next word (C-9). */
static int take_short(const Parser *p, int *i)
{
	char *word = p->argv[*i];
	bool has_taken = false;

	for (char *letter = word + 1; *letter; letter++) {
		const OptionEntry *e = find_short(p, *letter);
		char shown[] = {'-', *letter, '\0'};
		int r;

		if (*letter == 'h' || *letter == '?')
			return 1;
		if (!e)
			return wrong(p, "Unknown option %.400s", word);
		if (e->kind == OPTION_FLAG) {
			set_flag(p, e);
			continue;
		}
		if (has_taken)
			return wrong(p, "Error parsing option %s", shown);
		if (*i + 1 >= p->argc)
			return wrong(p, "Missing argument for %s", shown);
		r = set_value(p, e, shown, p->argv[*i + 1]);
		if (r < 0)
			return r;
		has_taken = true;
	}
	*i += has_taken;
	return 0;
}

int option_parser_run(const OptionEntry *entries, int argc, char **argv, void *target,
	char ret_reason[OPTION_REASON_MAX])
{
	const Parser parser = {.entries = entries, .argc = argc, .argv = argv, .target = target, .reason = ret_reason};

	for (int i = 1; i < argc; i++) {
		int r;

		if (argv[i][0] != '-' || argv[i][1] == '\0')
			continue;
		if (strcmp(argv[i], "--") == 0)
			return 0;
		r = argv[i][1] == '-' ? take_long(&parser, &i) : take_short(&parser, &i);
		if (r != 0)
			return r;
	}
	return 0;
}

/* --- help --- */

static int name_of(char *out, size_t size, const OptionEntry *e)
{
	char letter[8] = "";

	if (e->short_name)
		(void)snprintf(letter, sizeof(letter), "-%c, ", e->short_name);
	return snprintf(out, size, "  %s--%s%s%s", letter, e->name, e->argument[0] ? "=" : "", e->argument);
}

void option_parser_help(const OptionEntry *entries, const char *program, const char *summary, const char *epilogue)
{
	char text[128];
	int width = 0;

	for (const OptionEntry *e = entries; e->name[0]; e++)
		if (e->help[0] && name_of(text, sizeof(text), e) > width)
			width = name_of(text, sizeof(text), e);
	printf("Usage:\n  %s [OPTION…] - %s\n\nHelp Options:\n  %-*s  Show help options\n\nApplication Options:\n", program,
		summary, width - 2, "-h, --help");
	for (const OptionEntry *e = entries; e->name[0]; e++) {
		if (!e->help[0])
			continue;
		(void)name_of(text, sizeof(text), e);
		printf("%-*s  %s\n", width, text, e->help);
	}
	printf("\n%s\n", epilogue);
}
