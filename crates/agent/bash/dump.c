/*
 * The builtin with which a session's shell leaves its value: it does what
 * bash_dump.sh does, in the same form, at a third of the cost. No trap runs
 * while a builtin does, and its output is collected before it is written.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>

#include "bash.h"

enum { MOST_WORDS = 5 };

/* Calls a builtin with these words; the last one is null. */
static void call(int (*builtin)(struct words *), ...)
{
	struct word word[MOST_WORDS];
	struct words words[MOST_WORDS];
	va_list texts;
	int count = 0;
	va_start(texts, builtin);
	for (char *text; count < MOST_WORDS && (text = va_arg(texts, char *)); count++) {
		word[count] = (struct word){ text, 0 };
		words[count] = (struct words){ 0, &word[count] };
		if (count)
			words[count - 1].next = &words[count];
	}
	va_end(texts);
	builtin(count ? words : 0);
}

static void write_value(const char *mark)
{
	const char *line = "declare -- __hutch_m=\"%s\"\n";
	/* The next shell uses both to restore. */
	unbind_func("declare");
	unbind_func(".");
	fprintf(stdout, line, mark);
	call(declare_builtin, "-f", 0);
	call(declare_builtin, "-Fx", 0);
	fprintf(stdout, line, mark);
	call(unset_builtin, "POSIXLY_CORRECT", 0);
	call(trap_builtin, "-", "EXIT", "DEBUG", "RETURN", 0);
	call(trap_builtin, "-p", 0);
	fprintf(stdout, line, mark);
	call(umask_builtin, "-p", 0);
	fprintf(stdout, line, mark);
	call(pwd_builtin, 0);
	fprintf(stdout, line, mark);
	/* The mark is among them. */
	call(declare_builtin, "-p", 0);
	fprintf(stdout, line, mark);
	struct alias **aliases = all_aliases();
	for (struct alias **alias = aliases; alias && *alias; alias++)
		call(printf_builtin, "BASH_ALIASES[%q]=%q\\n", (*alias)->name, (*alias)->value, 0);
	fprintf(stdout, line, mark);
}

/* __hutch_dump CODE SOURCES MARK FILE */
static int dump(struct words *words)
{
	char *argument[4];
	for (int i = 0; i < 4; i++, words = words->next) {
		if (!words)
			return FAILURE;
		argument[i] = words->word->text;
	}
	int file = DUMP;
	if (fcntl(file, F_GETFD) < 0)
		file = open(argument[3], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FILE *own = fdopen(file, "w"), *usual = stdout;
	if (!own)
		return FAILURE;
	stdout = own;
	write_value(argument[2]);
	int written = fflush(own);
	stdout = usual;
	/* One that is still in a file is ended by a signal. */
	if (written == 0 && !strcmp(argument[1], "0")) {
		char word[64];
		int size = snprintf(word, sizeof word, "declare -- __hutch_c=\"%s\"\n", argument[0]);
		say(LINE, word, size);
	}
	return SUCCESS;
}

static char *const documentation[] = { "Leaves what a session keeps.", 0 };

struct builtin __hutch_dump_struct = {
	"__hutch_dump", dump, ENABLED | SPECIAL, documentation, "__hutch_dump", 0,
};
