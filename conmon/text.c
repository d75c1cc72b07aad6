#include "config.h"

#include "conmon/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void *checked(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

void text_free_p(char **text)
{
	free(*text);
}

char *text_format(const char *format, ...)
{
	char *text;
	va_list args;
	int size;

	va_start(args, format);
	size = vasprintf(&text, format, args);
	va_end(args);
	return checked(size < 0 ? NULL : text);
}

char *text_copy(const char *text, size_t size)
{
	return checked(strndup(text, size));
}

char *text_dirname(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return text_copy(".", 1);
	while (slash > path && slash[-1] == '/')
		slash--;
	return text_copy(path, slash == path ? 1 : (size_t)(slash - path));
}

void *text_new(size_t n, size_t size)
{
	return checked(calloc(n, size));
}

size_t words_count(char *const *words)
{
	size_t n = 0;

	while (words && words[n])
		n++;
	return n;
}

void words_add(char ***words, const char *word)
{
	size_t n = words_count(*words);

	*words = checked(reallocarray(*words, n + 2, sizeof(char *)));
	(*words)[n] = (char *)word;
	(*words)[n + 1] = NULL;
}
