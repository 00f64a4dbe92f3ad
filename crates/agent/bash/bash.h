/*
 * The declarations of bash that these builtins use, as in bash's own headers. All
 * are weak symbols, so that the builtin can detect a bash that lacks some of them.
 */
#ifndef HUTCH_BASH_H
#define HUTCH_BASH_H

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <sys/types.h>
#include <unistd.h>

struct word {
	char *text;
	int flags;
};
struct words {
	struct words *next;
	struct word *word;
};
struct builtin {
	char *name;
	int (*function)(struct words *);
	int flags;
	char *const *long_doc;
	const char *short_doc;
	char *handle;
};
enum {
	ENABLED = 1,
	DELETED = 2,
	STATIC = 4,
	SPECIAL = 8,
};
enum { SUCCESS, FAILURE };
struct alias {
	char *name, *value;
	char flags;
};

#define OF_BASH extern __attribute__((weak))
OF_BASH pid_t dollar_dollar_pid, shell_pgrp;
OF_BASH time_t shell_start_time;
OF_BASH struct timeval shellstart;
OF_BASH volatile sig_atomic_t terminating_signal;
OF_BASH void seedrand(void);
OF_BASH struct builtin *builtin_address_internal(char *name, int disabled_too);
OF_BASH void *bind_variable(const char *name, char *value, int flags);
OF_BASH int unbind_func(const char *name);
OF_BASH struct alias **all_aliases(void);
OF_BASH int declare_builtin(struct words *), printf_builtin(struct words *), pwd_builtin(struct words *),
	trap_builtin(struct words *), umask_builtin(struct words *), unset_builtin(struct words *);
/* Only glibc is supported: other C libraries cache the thread id, and only their
   own fork() renews it. */
OF_BASH const char *gnu_get_libc_version(void);

/* Descriptor numbers; the same as in fork_server.rs and shell_pool.rs. */
enum { LINE = 100, SCRIPT, AHEAD, LAST, DUMP, SERVER };

/* Sends all of the text to the agent; returns 0 on failure. */
int say(int line, const char *text, size_t size);
/* Runs one dump, so that bash initialises before the first copy what every dump uses. */
void warm_up(void);

extern struct builtin __hutch_fork_struct, __hutch_dump_struct;

#endif
