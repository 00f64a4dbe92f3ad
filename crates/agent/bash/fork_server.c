/*
 * The builtin that makes bash a fork server: for each message on its control
 * socket it makes a copy of the shell. In the copy it waits for a word, stores it
 * in REPLY and returns, so that the rest of the script runs. In the server it
 * never returns.
 *
 * A message has files and the descriptor numbers that they get in the copy. The
 * copy answers with one byte, and the kernel adds its pid. If there can be no
 * copy, the server itself answers.
 *
 * Copies are made by a plain clone(2). CLONE_PARENT makes them children of the
 * agent; bash treats each as the shell that was started, not as a subshell.
 */
#include "bash.h"

#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* Most files of one message, as in fork_server.rs. */
enum { MOST = 16 };

/* True for bash 5.1 and later on glibc. */
static int suits(void)
{
	return &terminating_signal && &dollar_dollar_pid && &shell_pgrp && &shell_start_time && &shellstart && seedrand &&
	       builtin_address_internal && bind_variable && unbind_func && all_aliases && declare_builtin &&
	       printf_builtin && pwd_builtin && trap_builtin && umask_builtin && unset_builtin &&
	       gnu_get_libc_version;
}

int say(int line, const char *text, size_t size)
{
	return send(line, text, size, MSG_NOSIGNAL) == (ssize_t)size;
}

/* Renews the values that bash sets at its start: `$$`, group, SECONDS, RANDOM. */
static void become_itself(void)
{
	setsid();
	/* The signal was for the server. */
	terminating_signal = 0;
	dollar_dollar_pid = shell_pgrp = getpid();
	gettimeofday(&shellstart, 0);
	shell_start_time = shellstart.tv_sec;
	seedrand();
}

/* Receives the files of one message and returns their number; 0 if some are missing. */
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
	ssize_t size = recvmsg(SERVER, &message, MSG_CMSG_CLOEXEC);
	if (size <= 0 || terminating_signal)
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

/* Reads the word on the copy's control socket, without its newline. */
static void wait_for_word(void)
{
	char word[16];
	size_t size = 0;
	for (;;) {
		/* bash handles a terminating signal only after this builtin returns. */
		if (terminating_signal || read(LINE, word + size, 1) != 1 || size == sizeof word - 1)
			_exit(0);
		if (word[size] == '\n')
			break;
		size++;
	}
	word[size] = 0;
	bind_variable("REPLY", word, 0);
	/* Scripts without a session must not see the agent's builtins. */
	builtin_address_internal("__hutch_fork", 1)->flags = DELETED | STATIC;
	if (!size)
		builtin_address_internal("__hutch_dump", 1)->flags = DELETED | STATIC;
}

static int serve(struct words *words)
{
	int numbers[MOST], files[MOST];
	(void)words;
	if (!suits())
		return FAILURE;
	warm_up();
	if (!say(SERVER, "", 1))
		return FAILURE;
	for (;;) {
		int count = receive(numbers, files);
		long copy = count ? syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) : -1;
		if (copy == 0) {
			become_itself();
			for (int i = 0; i < count; i++)
				dup2(files[i], numbers[i]);
		}
		if (copy <= 0)
			say(SERVER, "", 1);
		for (int i = 0; i < count; i++)
			close(files[i]);
		if (copy == 0) {
			close(SERVER);
			wait_for_word();
			return SUCCESS;
		}
	}
}

static char *const documentation[] = { "Makes a copy of the shell for each message on its line.", 0 };

struct builtin __hutch_fork_struct = {
	"__hutch_fork", serve, ENABLED, documentation, "__hutch_fork", 0,
};
