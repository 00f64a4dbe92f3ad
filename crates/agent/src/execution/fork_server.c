/*
 * A builtin of bash, loaded with `enable -f`: for each message on its line it
 * makes a copy of the shell that runs it. In the copy it returns, so that what
 * stands behind it in the script is run; in the shell itself it never does.
 *
 * A message has the numbers that the copy is to have files under, and those
 * files. The copy answers with one byte; who it is, the kernel tells. Where
 * there can be no copy, the shell itself answers.
 *
 * Needs what bash 5.1 on glibc exports, and fails where that is missing. Copies
 * are made by a plain clone(2): by CLONE_PARENT they are children of the agent,
 * and to bash each of them is the shell that was started, not a subshell.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

/* As in bash's builtins.h. */
struct builtin {
	char *name;
	int (*function)(void *words);
	int flags;
	char *const *long_doc;
	const char *short_doc;
	char *handle;
};
enum { BUILTIN_ENABLED = 1 };
enum { EXECUTION_SUCCESS, EXECUTION_FAILURE };

/* What bash knows of itself since its start: `$$`, its group, SECONDS, RANDOM. */
extern pid_t dollar_dollar_pid __attribute__((weak));
extern pid_t shell_pgrp __attribute__((weak));
extern time_t shell_start_time __attribute__((weak));
extern struct timeval shellstart __attribute__((weak));
extern void seedrand(void) __attribute__((weak));
/* Other libraries keep their thread's id where only their own fork renews it. */
extern const char *gnu_get_libc_version(void) __attribute__((weak));

/* fork_server.rs has the same. */
enum { LINE = 105, MOST = 16 };

static int suits(void)
{
	return &dollar_dollar_pid && &shell_pgrp && &shell_start_time && &shellstart &&
	       seedrand && gnu_get_libc_version;
}

static void become_itself(void)
{
	setsid();
	dollar_dollar_pid = shell_pgrp = getpid();
	gettimeofday(&shellstart, 0);
	shell_start_time = shellstart.tv_sec;
	seedrand();
}

static int answer(void)
{
	return send(LINE, "", 1, MSG_NOSIGNAL) == 1;
}

/* The files of one message; none that are not all there. */
static int receive(int *numbers, int *files)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(MOST * sizeof(int))];
	} control;
	struct iovec data = { numbers, MOST * sizeof(int) };
	struct msghdr message = { 0 };
	message.msg_iov = &data;
	message.msg_iovlen = 1;
	message.msg_control = &control;
	message.msg_controllen = sizeof control;
	ssize_t size = recvmsg(LINE, &message, MSG_CMSG_CLOEXEC);
	if (size <= 0)
		_exit(0);
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
		return 0;
	int count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(files, CMSG_DATA(head), count * sizeof(int));
	if (count * sizeof(int) == (size_t)size)
		return count;
	while (count)
		close(files[--count]);
	return 0;
}

static int fork_server(void *words)
{
	int numbers[MOST], files[MOST];
	(void)words;
	if (!suits() || !answer())
		return EXECUTION_FAILURE;
	for (;;) {
		int count = receive(numbers, files);
		long copy = count ? syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) : -1;
		if (copy == 0) {
			become_itself();
			for (int i = 0; i < count; i++)
				dup2(files[i], numbers[i]);
			answer();
			close(LINE);
		} else if (copy < 0) {
			answer();
		}
		for (int i = 0; i < count; i++)
			close(files[i]);
		if (copy == 0)
			return EXECUTION_SUCCESS;
	}
}

static char *const documentation[] = { "Makes a copy of the shell for each message on its line.", 0 };

struct builtin __hutch_fork_struct = {
	"__hutch_fork", fork_server, BUILTIN_ENABLED, documentation, "__hutch_fork", 0,
};
