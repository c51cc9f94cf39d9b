/*
 * The process parses bytes that came over a network with code that was written to trust them. So
 * after start it can read its input, write its answers and allocate memory, and nothing else:
 * every other system call kills it. The filter is plain BPF through prctl, no library.
 *
 * A forked child proves at each start that a forbidden call is in fact fatal.
 */
#include "walredo/walredo.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#define AUDIT_ARCH_HERE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define AUDIT_ARCH_HERE AUDIT_ARCH_AARCH64
#else
#error "the system call filter knows x86-64 and arm64"
#endif

#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000U
#endif

/* Shared memory and buffers are some 200 MB of address space; the largest record twice; room. */
#define ADDRESS_SPACE_BYTES_MAX ((rlim_t) 1024 * 1024 * 1024)
/* First descriptor that is neither input, stderr (twice) nor the answers: see io.c. */
#define FIRST_UNUSED_FD 4

#define LOW_WORD(n) (offsetof(struct seccomp_data, args[n]))
#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define KILL BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define ALLOW_CALL(number) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), ALLOW

static bool
install_filter(void)
{
	/* Little-endian both: the low word of an argument comes first. */
	struct sock_filter code[] = {
		LOAD(offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_HERE, 1, 0),
		KILL,
		LOAD(offsetof(struct seccomp_data, nr)),
#if defined(__x86_64__)
		/* The x32 calls have numbers of their own. */
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
		KILL,
#endif
		ALLOW_CALL(__NR_read),
		ALLOW_CALL(__NR_write),
		ALLOW_CALL(__NR_brk),
		ALLOW_CALL(__NR_munmap),
		ALLOW_CALL(__NR_futex),
		ALLOW_CALL(__NR_getpid),
		ALLOW_CALL(__NR_rt_sigprocmask),
		ALLOW_CALL(__NR_rt_sigreturn),
		ALLOW_CALL(__NR_clock_gettime),
		ALLOW_CALL(__NR_exit_group),
		/* mmap: anonymous memory only, and never executable. */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_mmap, 1, 0),
		KILL,
		LOAD(LOW_WORD(3)),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 1, 0),
		KILL,
		LOAD(LOW_WORD(2)),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
		KILL,
		ALLOW,
	};
	struct sock_fprog program = {.len = lengthof(code), .filter = code};

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* In a child: with the filter on, opening a file must be the last thing that happens. */
static void
prove_filter(void)
{
	int			status;
	pid_t		child = fork();

	if (child < 0)
		elog(FATAL, "could not fork for the sandbox's self-test: %m");
	if (child == 0)
	{
		if (!install_filter())
			_exit(1);
		(void) syscall(__NR_openat, AT_FDCWD, "/", O_RDONLY);
		_exit(2);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			elog(FATAL, "could not wait for the sandbox's self-test: %m");
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
		elog(FATAL, "the sandbox does not hold: a forbidden system call ended with status %d",
			 status);
}

static void
limit(__rlimit_resource_t resource, rlim_t value, const char *what)
{
	struct rlimit limits = {value, value};

	if (setrlimit(resource, &limits) != 0)
		elog(FATAL, "could not limit %s: %m", what);
}

void
sandbox_enter_early(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 ||
		prctl(PR_SET_DUMPABLE, 0) != 0)
		elog(FATAL, "could not give up privileges: %m");
	limit(RLIMIT_CORE, 0, "core dumps");
	limit(RLIMIT_AS, ADDRESS_SPACE_BYTES_MAX, "address space");
}

void
sandbox_close(void)
{
	prove_filter();
	if (syscall(__NR_close_range, FIRST_UNUSED_FD, ~0U, 0) != 0)
	{
		/* Linux before 5.9. */
		for (int fd = FIRST_UNUSED_FD; fd < 1024; fd++)
			close(fd);
	}
	limit(RLIMIT_FSIZE, 0, "file size");
	limit(RLIMIT_NPROC, 0, "processes");
	limit(RLIMIT_NOFILE, 0, "open files");
	if (!install_filter())
		elog(FATAL, "could not install the system call filter: %m");
}
