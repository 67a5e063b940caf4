/*
 * steps TRACE BASE END COMMAND...: runs a command one instruction at a time and writes each address below END and from BASE
 * on that it or what it spawns came by, once, in the order of the first time. Whatever executes another program, or is left
 * when the command has ended, goes on without being watched.
 */
#define _GNU_SOURCE
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof(*(array)))

static unsigned long base, end;
static unsigned char *seen;

static void note(pid_t pid, FILE *trace)
{
	struct user_regs_struct registers;
	if (ptrace(PTRACE_GETREGS, pid, 0, &registers) < 0)
		return;
	unsigned long at = registers.rip;
	if (at >= base && at < end && !seen[at - base]) {
		seen[at - base] = 1;
		fprintf(trace, "%lx\n", at);
	}
}

/* Those that are watched besides the command itself. */
static pid_t others[64];

static void replace(pid_t old, pid_t new)
{
	for (size_t i = 0; i < LENGTH(others); i++) {
		if (others[i] == old) {
			others[i] = new;
			return;
		}
	}
}

static void watch(pid_t pid)
{
	for (size_t i = 0; i < LENGTH(others); i++) {
		if (others[i] == pid)
			return;
	}
	replace(0, pid);
}

/* Only what has stopped can be let go, and a SIGSTOP that is still to come would stop it afterwards. */
static void let_go(void)
{
	for (size_t i = 0; i < LENGTH(others); i++) {
		int status;
		if (!others[i] || kill(others[i], SIGSTOP) < 0)
			continue;
		while (waitpid(others[i], &status, __WALL) > 0 && WIFSTOPPED(status)) {
			int last = WSTOPSIG(status) == SIGSTOP;
			ptrace(last ? PTRACE_DETACH : PTRACE_CONT, others[i], 0, 0);
			if (last)
				break;
		}
	}
}

/* The child stops before it executes the command, and again after. */
static pid_t begin(char **command)
{
	pid_t pid = fork();
	if (pid < 0)
		err(1, "steps: fork");
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		execv(*command, command);
		err(127, "steps: %s", *command);
	}
	int status;
	waitpid(pid, &status, 0);
	long options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC;
	if (ptrace(PTRACE_SETOPTIONS, pid, 0, options) < 0)
		err(1, "steps: PTRACE_SETOPTIONS");
	ptrace(PTRACE_CONT, pid, 0, 0);
	return pid;
}

int main(int count, char **arguments)
{
	if (count < 5)
		errx(2, "TRACE BASE END COMMAND...");
	base = strtoul(arguments[2], NULL, 16);
	end = strtoul(arguments[3], NULL, 16);
	FILE *trace = fopen(arguments[1], "w");
	seen = end > base ? calloc(end - base, 1) : NULL;
	if (!trace || !seen)
		err(1, "steps: %s", arguments[1]);
	pid_t first = begin(arguments + 4), pid;
	int status, result = 1, began = 0;
	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		if (!WIFSTOPPED(status)) {
			replace(pid, 0);
			if (pid == first) {
				result = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
				break;
			}
			continue;
		}
		if (pid != first)
			watch(pid);
		int event = status >> 16, signal = WSTOPSIG(status);
		if (event == PTRACE_EVENT_EXEC && began++) {
			ptrace(PTRACE_DETACH, pid, 0, 0);
			replace(pid, 0);
			continue;
		}
		int ours = event || signal == SIGTRAP || signal == SIGSTOP;
		if (!event && signal == SIGTRAP)
			note(pid, trace);
		ptrace(PTRACE_SINGLESTEP, pid, 0, ours ? 0 : signal);
	}
	let_go();
	if (fclose(trace) != 0)
		err(1, "steps: %s", arguments[1]);
	return result;
}
